import io.kurrent.dbclient.*;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

/**
 * The client for Java, unchanged, against a server with TLS and users: what tests/clients/run.py asks of every client.
 *
 * Environment: ADMIN, ANN, WRONG (connection strings with the CA's file).
 */
public class Scenario {
    static KurrentDBClientSettings settings(String name) {
        return KurrentDBConnectionString.parseOrThrow(System.getenv(name));
    }

    static EventData event(int n) {
        return EventData.builderAsJson("Happened", ("{\"n\":" + n + "}").getBytes()).build();
    }

    static void expect(boolean is, String what) {
        if (!is) throw new AssertionError(what);
    }

    interface Call {
        Object run() throws Exception;
    }

    static void refused(String what, Class<?> kind, Call call) throws Exception {
        try {
            call.run();
        } catch (ExecutionException e) {
            Throwable cause = e.getCause();
            if (kind.isInstance(cause)) return;
            if (cause instanceof io.grpc.StatusRuntimeException && kind == io.grpc.StatusRuntimeException.class) return;
            throw new AssertionError(what + ": another error: " + cause, cause);
        }
        throw new AssertionError(what + ": it succeeded");
    }

    static List<Long> revisions(KurrentDBClient client, String stream) throws Exception {
        List<Long> all = new ArrayList<>();
        for (ResolvedEvent e : client.readStream(stream, ReadStreamOptions.get().forwards().fromStart()).get().getEvents())
            all.add(e.getOriginalEvent().getRevision());
        return all;
    }

    static void follow(KurrentDBClient client, String stream, int count) throws Exception {
        CountDownLatch seen = new CountDownLatch(count);
        Subscription subscription = client.subscribeToStream(stream, new SubscriptionListener() {
            @Override
            public void onEvent(Subscription s, ResolvedEvent e) {
                seen.countDown();
            }
        }).get();
        expect(seen.await(20, TimeUnit.SECONDS), "the subscription did not see everything");
        subscription.stop();
    }

    public static void main(String[] arguments) throws Exception {
        KurrentDBClient ann = KurrentDBClient.create(settings("ANN"));
        KurrentDBClient admin = KurrentDBClient.create(settings("ADMIN"));
        String stream = "java-" + UUID.randomUUID().toString().substring(0, 8);

        ann.appendToStream(stream, AppendToStreamOptions.get().streamState(StreamState.noStream()), event(0), event(1)).get();
        EventData again = event(2);
        WriteResult first = ann.appendToStream(stream, AppendToStreamOptions.get().streamRevision(1), again).get();
        expect(revisions(ann, stream).equals(List.of(0L, 1L, 2L)), "read " + revisions(ann, stream));
        System.out.println("ok appends and reads");

        refused("a conflict", WrongExpectedVersionException.class,
                () -> ann.appendToStream(stream, AppendToStreamOptions.get().streamRevision(7), event(3)).get());
        WriteResult second = ann.appendToStream(stream, AppendToStreamOptions.get().streamRevision(1), again).get();
        expect(first.getNextExpectedRevision().equals(second.getNextExpectedRevision()), "a retry was written twice");
        System.out.println("ok conflicts and retries");

        follow(ann, stream, 3);
        System.out.println("ok a catch-up subscription");

        KurrentDBPersistentSubscriptionsClient groups = KurrentDBPersistentSubscriptionsClient.create(settings("ADMIN"));
        groups.createToStream(stream, "team", CreatePersistentSubscriptionToStreamOptions.get().fromStart()).get();
        CountDownLatch taken = new CountDownLatch(3);
        PersistentSubscription consumer = KurrentDBPersistentSubscriptionsClient.create(settings("ANN"))
                .subscribeToStream(stream, "team", new PersistentSubscriptionListener() {
                    @Override
                    public void onEvent(PersistentSubscription s, int retries, ResolvedEvent e) {
                        s.ack(e);
                        taken.countDown();
                    }
                }).get();
        expect(taken.await(20, TimeUnit.SECONDS), "the consumer did not get everything");
        consumer.stop();
        System.out.println("ok a group of consumers");

        ann.deleteStream(stream).get();
        refused("a read of what is deleted", StreamNotFoundException.class, () -> revisions(ann, stream));
        System.out.println("ok deletion");

        String secret = "$java-" + UUID.randomUUID().toString().substring(0, 8);
        admin.appendToStream(secret, event(0)).get();
        refused("a read without the right", io.grpc.StatusRuntimeException.class, () -> revisions(ann, secret));
        refused("an append without the right", io.grpc.StatusRuntimeException.class, () -> ann.appendToStream(secret, event(1)).get());
        expect(revisions(admin, secret).equals(List.of(0L)), "an append without the right was written");
        refused("a wrong password", io.grpc.StatusRuntimeException.class,
                () -> revisions(KurrentDBClient.create(settings("WRONG")), stream));
        System.out.println("ok rights and passwords");
        System.exit(0);
    }
}
