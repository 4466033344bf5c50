/* server: starts, wires and stops the rooms, in order. No behaviour lives here. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

/* Runs the server until it is asked to stop (SIGINT, SIGTERM). `arguments` are flags only. Prints where it
 * listens on standard output, problems on standard error. Gives the process's exit code (base/fault.h:
 * exit_code; 0 after an orderly stop). */
int server_main(int count, char **arguments, char **environment);

/* Shows what a start would use, and where each value is from; starts nothing. `words`: perhaps a YAML file, then flags. All
 * problems go to standard error. Gives 0, or 2 if there is any. */
int server_check_config(int count, char **words, char **environment);

#endif
