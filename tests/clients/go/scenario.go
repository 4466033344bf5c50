// The client for Go, unchanged, against a server with TLS and users: what tests/clients/run.py asks of every client.
//
// Environment: ADMIN, ANN, WRONG (connection strings with the CA's file).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/kurrent-io/KurrentDB-Client-Go/kurrentdb"
)

func must(what string, err error) {
	if err != nil {
		fmt.Printf("FAILED %s: %v\n", what, err)
		os.Exit(1)
	}
}

func expect(is bool, format string, values ...any) {
	if !is {
		fmt.Printf("FAILED "+format+"\n", values...)
		os.Exit(1)
	}
}

func connect(name string) *kurrentdb.Client {
	settings, err := kurrentdb.ParseConnectionString(os.Getenv(name))
	must("the connection string", err)
	settings.Logger = kurrentdb.NoopLogging()
	client, err := kurrentdb.NewClient(settings)
	must("a client", err)
	return client
}

func event(n int) kurrentdb.EventData {
	return kurrentdb.EventData{EventID: uuid.New(), EventType: "Happened", ContentType: kurrentdb.ContentTypeJson, Data: []byte(fmt.Sprintf(`{"n":%d}`, n))}
}

// refused fails unless the error has one of these codes.
func refused(what string, err error, codes ...kurrentdb.ErrorCode) {
	expect(err != nil, "%s: it succeeded", what)
	known, is := kurrentdb.FromError(err)
	expect(!is, "%s: no error of the client: %v", what, err)
	for _, code := range codes {
		if known.Code() == code {
			return
		}
	}
	expect(false, "%s: another error: %v", what, err)
}

func revisions(ctx context.Context, client *kurrentdb.Client, stream string) ([]uint64, error) {
	reader, err := client.ReadStream(ctx, stream, kurrentdb.ReadStreamOptions{From: kurrentdb.Start{}}, 1000)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	all := []uint64{}
	for {
		resolved, err := reader.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, resolved.Event.EventNumber)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	ann, admin := connect("ANN"), connect("ADMIN")
	stream := "go-" + uuid.NewString()[:8]

	_, err := ann.AppendToStream(ctx, stream, kurrentdb.AppendToStreamOptions{StreamState: kurrentdb.NoStream{}}, event(0), event(1))
	must("an append", err)
	again := event(2)
	first, err := ann.AppendToStream(ctx, stream, kurrentdb.AppendToStreamOptions{StreamState: kurrentdb.StreamRevision{Value: 1}}, again)
	must("an append at a revision", err)
	got, err := revisions(ctx, ann, stream)
	must("a read", err)
	expect(fmt.Sprint(got) == "[0 1 2]", "read %v", got)
	fmt.Println("ok appends and reads")

	_, err = ann.AppendToStream(ctx, stream, kurrentdb.AppendToStreamOptions{StreamState: kurrentdb.StreamRevision{Value: 7}}, event(3))
	refused("a conflict", err, kurrentdb.ErrorCodeWrongExpectedVersion)
	second, err := ann.AppendToStream(ctx, stream, kurrentdb.AppendToStreamOptions{StreamState: kurrentdb.StreamRevision{Value: 1}}, again)
	must("a retry", err)
	expect(first.NextExpectedVersion == second.NextExpectedVersion, "a retry was written twice")
	fmt.Println("ok conflicts and retries")

	subscription, err := ann.SubscribeToStream(ctx, stream, kurrentdb.SubscribeToStreamOptions{From: kurrentdb.Start{}})
	must("a subscription", err)
	for seen := 0; seen < 3; {
		message := subscription.Recv()
		expect(message.SubscriptionDropped == nil, "the subscription was dropped: %v", message.SubscriptionDropped)
		if message.EventAppeared != nil {
			expect(message.EventAppeared.Event.EventNumber == uint64(seen), "event %d is not %d", message.EventAppeared.Event.EventNumber, seen)
			seen++
		}
	}
	must("its end", subscription.Close())
	fmt.Println("ok a catch-up subscription")

	must("a group", admin.CreatePersistentSubscription(ctx, stream, "team", kurrentdb.PersistentStreamSubscriptionOptions{StartFrom: kurrentdb.Start{}}))
	consumer, err := ann.SubscribeToPersistentSubscription(ctx, stream, "team", kurrentdb.SubscribeToPersistentSubscriptionOptions{})
	must("a consumer", err)
	for taken := 0; taken < 3; {
		message := consumer.Recv()
		expect(message.SubscriptionDropped == nil, "the consumer was dropped: %v", message.SubscriptionDropped)
		if message.EventAppeared != nil {
			must("an acknowledgement", consumer.Ack(message.EventAppeared.Event))
			taken++
		}
	}
	must("its end", consumer.Close())
	fmt.Println("ok a group of consumers")

	response, err := ann.MultiStreamAppend(ctx, func(yield func(kurrentdb.AppendStreamRequest) bool) {
		for _, name := range []string{stream + "-a", stream + "-b"} {
			if !yield(kurrentdb.AppendStreamRequest{StreamName: name, ExpectedStreamState: kurrentdb.NoStream{}, Events: func(yield func(kurrentdb.EventData) bool) { yield(event(0)) }}) {
				return
			}
		}
	})
	must("an append to several streams", err)
	expect(response != nil, "no answer")
	fmt.Println("ok several streams at once")

	_, err = ann.DeleteStream(ctx, stream, kurrentdb.DeleteStreamOptions{})
	must("a deletion", err)
	_, err = revisions(ctx, ann, stream)
	refused("a read of what is deleted", err, kurrentdb.ErrorCodeResourceNotFound)
	fmt.Println("ok deletion")

	secret := "$go-" + uuid.NewString()[:8]
	_, err = admin.AppendToStream(ctx, secret, kurrentdb.AppendToStreamOptions{}, event(0))
	must("an append by an administrator", err)
	_, err = revisions(ctx, ann, secret)
	refused("a read without the right", err, kurrentdb.ErrorCodeAccessDenied)
	_, err = ann.AppendToStream(ctx, secret, kurrentdb.AppendToStreamOptions{}, event(1))
	refused("an append without the right", err, kurrentdb.ErrorCodeAccessDenied)
	_, err = revisions(ctx, connect("WRONG"), stream)
	refused("a read with a wrong password", err, kurrentdb.ErrorCodeUnauthenticated, kurrentdb.ErrorCodeAccessDenied)
	fmt.Println("ok rights and passwords")
}
