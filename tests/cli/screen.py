#!/usr/bin/env python3
"""Runs a program on a terminal of a fixed size and shows what its screen showed, as text.

    tests/cli/screen.py '{"command": [...], "columns": 80, "rows": 24, "steps": [...]}'

A step is one of
    {"wait": SECONDS}              lets the program run
    {"until": REGEX}               until a row of the screen matches (at most 20 s; else a failure)
    {"type": TEXT}                 keys
    {"signal": NAME}               to the program
    {"resize": [COLUMNS, ROWS]}
    {"shot": NAME}                 keeps what the screen shows
and at the end the program is waited for (10 s). Prints one JSON object:
    shots: {name: {rows: [...], cursor: [row, column], is_alternate, has_cursor, has_styles, style, wraps}}; "end" is what is left at the end
    code: exit code, or "signal N"; is_restored: the terminal's modes are as they were; problems: [...]

The terminal is a small one, and a strict one: a sequence that it does not know, text behind the last column or rows that
scroll away in the alternate screen are problems, since a larger terminal would hide them."""

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
import unicodedata

UNTIL_S = 20
END_S = 10
CONTROL = re.compile(r"\x1b\[([?]?)([0-9;]*)([A-Za-z])")


class Screen:
    """The cells of a terminal, and the sequences that this program may send."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.problems = []
        self.main = self.empty()
        self.cells = self.main
        self.row = self.column = 0
        self.is_alternate = False
        self.has_cursor = True
        self.has_styles = False
        self.wraps = 0
        self.saved = (0, 0)
        self.style = ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.rest = ""

    def empty(self):
        return [[" "] * self.columns for _ in range(self.rows)]

    def resize(self, columns, rows):
        def fit(cells):
            cells = [row[:columns] + [" "] * (columns - len(row)) for row in cells[:rows]]
            return cells + [[" "] * columns for _ in range(rows - len(cells))]
        was_main = self.cells is self.main
        self.main = fit(self.main)
        self.cells = self.main if was_main else fit(self.cells)
        self.columns, self.rows = columns, rows
        self.row, self.column = min(self.row, rows - 1), min(self.column, columns)

    def feed(self, data):
        text = self.rest + self.decoder.decode(data)
        self.rest = ""
        at = 0
        while at < len(text):
            character = text[at]
            if character == "\x1b":
                match = CONTROL.match(text, at)
                if not match:
                    if len(text) - at < 16:
                        self.rest = text[at:]
                        return
                    self.problems.append("unknown sequence %r" % text[at:at + 8])
                    at += 1
                    continue
                self.control(*match.groups())
                at = match.end()
                continue
            at += 1
            if character == "\r":
                self.column = 0
            elif character == "\n":
                self.line_feed()
            elif character == "\b":
                self.column = max(self.column - 1, 0)
            elif character == "\t":
                self.column = min((self.column // 8 + 1) * 8, self.columns - 1)
            elif character < " " or character == "\x7f" or "\x80" <= character < "\xa0":
                self.problems.append("control character %r" % character)
            else:
                self.put(character)

    def line_feed(self):
        if self.row + 1 < self.rows:
            self.row += 1
            return
        if self.is_alternate:
            self.problems.append("the alternate screen scrolled")
        del self.cells[0]
        self.cells.append([" "] * self.columns)

    def put(self, character):
        if unicodedata.combining(character):
            if self.column:
                self.cells[self.row][self.column - 1] += character
            return
        width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if self.column + width > self.columns:
            if self.is_alternate:
                self.problems.append("text behind the last column of row %d: %r" % (self.row, "".join(self.cells[self.row])))
            self.wraps += 1
            self.column = 0
            self.line_feed()
        self.cells[self.row][self.column] = character
        self.has_styles = self.has_styles or bool(self.style)
        if width == 2:
            self.cells[self.row][self.column + 1] = ""
        self.column += width

    def erase(self, row, first, last):
        for column in range(first, last):
            self.cells[row][column] = " "

    def control(self, private, parameters, final):
        numbers = [int(n) if n else 0 for n in parameters.split(";")]
        if private:
            return self.mode(numbers[0], final)
        if final == "H":
            self.row = min(max(numbers[0], 1), self.rows) - 1
            self.column = min(max(numbers[1] if len(numbers) > 1 else 1, 1), self.columns) - 1
        elif final == "J" and numbers[0] == 2:
            for row in range(self.rows):
                self.erase(row, 0, self.columns)
        elif final == "J" and numbers[0] == 0:
            self.erase(self.row, min(self.column, self.columns - 1), self.columns)
            for row in range(self.row + 1, self.rows):
                self.erase(row, 0, self.columns)
        elif final == "K" and numbers[0] == 0:
            # Behind a full row the cursor still stands on the last cell, which xterm erases.
            self.erase(self.row, min(self.column, self.columns - 1), self.columns)
        elif final == "B":
            self.row = min(self.row + max(numbers[0], 1), self.rows - 1)
        elif final == "m":
            self.style = "" if numbers == [0] else parameters
        else:
            self.problems.append("unknown sequence ESC [ %s %s" % (parameters, final))

    def mode(self, number, final):
        is_on = final == "h"
        if number == 25:
            self.has_cursor = is_on
        elif number == 1049:
            if is_on and not self.is_alternate:
                self.saved = (self.row, self.column)
                self.cells = self.empty()
            elif not is_on and self.is_alternate:
                self.cells = self.main
                self.row, self.column = self.saved
            self.is_alternate = is_on
        else:
            self.problems.append("unknown mode %d%s" % (number, final))

    def shot(self):
        return {"rows": ["".join(row).rstrip() for row in self.cells], "cursor": [self.row, self.column],
                "is_alternate": self.is_alternate, "has_cursor": self.has_cursor, "has_styles": self.has_styles,
                "style": self.style, "wraps": self.wraps}


class Session:
    def __init__(self, wish):
        self.screen = Screen(wish.get("columns", 80), wish.get("rows", 24))
        self.shots = {}
        self.code = None
        self.master, self.slave = pty.openpty()
        self.resize(self.screen.columns, self.screen.rows)
        self.before = termios.tcgetattr(self.slave)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            for fd in range(3):
                os.dup2(self.slave, fd)
            os.closerange(3, 256)
            os.execvp(wish["command"][0], wish["command"])
        # The slave stays open here: its modes are looked at when the program is gone.

    def resize(self, columns, rows):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def ended(self):
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.code = code if code >= 0 else "signal %d" % -code
        return self.code is not None

    def read(self, seconds):
        """Takes what comes within so many seconds; False when the program has ended and everything was read."""
        until = time.monotonic() + seconds
        while True:
            has_ended = self.ended()
            left = 0 if has_ended else max(until - time.monotonic(), 0)
            if select.select([self.master], [], [], min(left, 0.05))[0]:
                self.screen.feed(os.read(self.master, 65536))
            elif has_ended:
                return False
            elif left <= 0:
                return True

    def until(self, pattern):
        end = time.monotonic() + UNTIL_S
        while time.monotonic() < end:
            if any(re.search(pattern, row) for row in self.screen.shot()["rows"]):
                return
            if not self.read(0.02):
                break
        if not any(re.search(pattern, row) for row in self.screen.shot()["rows"]):
            self.screen.problems.append("never seen: %s" % pattern)

    def step(self, step):
        (what, value), = step.items()
        if what == "wait":
            self.read(value)
        elif what == "until":
            self.until(value)
        elif what == "type":
            os.write(self.master, value.encode())
        elif what == "signal":
            if self.ended():
                self.screen.problems.append("ended with %s before %s" % (self.code, value))
            else:
                os.kill(self.pid, getattr(signal, value))
        elif what == "resize":
            self.read(0.05)
            self.screen.resize(*value)
            self.resize(*value)
        elif what == "shot":
            self.read(0.05)
            self.shots[value] = self.screen.shot()
        else:
            raise ValueError("no such step: %s" % what)

    def finish(self):
        if self.read(END_S):
            self.screen.problems.append("not ended within %d s" % END_S)
            os.kill(self.pid, signal.SIGKILL)
            self.read(END_S)
        self.shots["end"] = self.screen.shot()
        return {"shots": self.shots, "code": self.code, "problems": self.screen.problems,
                "is_restored": termios.tcgetattr(self.slave) == self.before}


def main():
    wish = json.loads(sys.argv[1])
    session = Session(wish)
    try:
        for step in wish.get("steps", []):
            session.step(step)
        print(json.dumps(session.finish(), ensure_ascii=False))
    finally:
        if session.code is None:
            os.kill(session.pid, signal.SIGKILL)


main()
