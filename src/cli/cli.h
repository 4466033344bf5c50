/* cli: people's hands on a server (through the client library) and on data at rest (through libnilo). */
#ifndef CLI_CLI_H
#define CLI_CLI_H

/* Runs one command: argv[1] is its noun. Gives the exit code: 0 ok, 1 unexpected, 2 usage, 3 conflict, 4 not found,
 * 5 denied, 6 unavailable, 7 corrupt. */
int cli_main(int argc, char **argv);

#endif
