#!/usr/bin/env python3
"""check_rooms.py must find what is planted, and only that: a tree is made with one fault for each rule."""

import contextlib
import io
import os
import tempfile
import unittest

import check_rooms

ROOMS = "base:\nos: base\nmodel: base\nstore: base os model\nclient: base\n"
CLEAN = {
    "src/ROOMS": ROOMS,
    "src/base/bytes.h": "struct bytes;\n",
    "src/model/event.h": '#include "base/bytes.h"\nstruct event;\n',
    "src/os/os.h": '#include "base/bytes.h"\nstruct os;\n',
    "src/os/inside.h": "struct inside;\n",
    "src/store/store.h": '#include "model/event.h"\nstruct store;\n',
    "src/store/store.c": '#include "store/store.h"\n#include "os/os.h"\n/* open( and printf( in words only */\n'
                         'int store_open(struct store *s);\nchar *t = "open(";\nvoid f(void) { s->read(1); a.write(2); }\n',
    "include/nilo/nilo.h": "struct nilo;\n",
}


class CheckRooms(unittest.TestCase):
    def found(self, changes):
        with tempfile.TemporaryDirectory() as root:
            for path, text in {**CLEAN, **changes}.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                findings = check_rooms.check(root)
            return findings.failed, out.getvalue()

    def expect(self, changes, words):
        failed, out = self.found(changes)
        self.assertEqual(failed, 1, out)
        self.assertIn(words, out)

    def test_a_clean_tree_has_no_findings(self):
        self.assertEqual(self.found({})[0], 0, self.found({})[1])

    def test_an_include_against_the_direction(self):
        self.expect({"src/os/os.c": '#include "store/store.h"\n'}, "src/ROOMS does not let os include store")

    def test_a_private_header_of_another_room(self):
        self.expect({"src/store/b.c": '#include "os/inside.h"\n'}, "private to os")

    def test_the_simulated_machine_outside_tests(self):
        self.expect({"src/os/os_sim.h": "struct sim;\n", "src/store/b.c": '#include "os/os_sim.h"\n'}, "private to os")

    def test_a_public_header_inside_a_room(self):
        self.expect({"src/store/b.c": "#include <nilo/nilo.h>\n"}, "public headers")
        self.assertEqual(self.found({"src/client/b.c": "#include <nilo/nilo.h>\n"})[0], 0)

    def test_a_circle_in_the_drawing(self):
        failed, out = self.found({"src/ROOMS": ROOMS.replace("os: base", "os: base store")})
        self.assertGreaterEqual(failed, 1)
        self.assertIn("not above it", out)

    def test_a_folder_that_is_no_room(self):
        self.expect({"src/attic/a.c": "int a;\n"}, "not in src/ROOMS")

    def test_tests_below_their_room_only(self):
        self.expect({"tests/rooms/os/unit_a.c": '#include "store/store.h"\n'}, "tests of os")
        self.expect({"tests/rooms/os/api_a.c": '#include "os/inside.h"\n'}, "api_ tests use the contract only")
        self.assertEqual(self.found({"tests/rooms/os/unit_a.c": '#include "os/inside.h"\n#include "test.h"\n'})[0], 0)

    def test_a_contract_that_does_not_compile_alone(self):
        self.expect({"src/store/store.h": "struct store { struct event e; };\n"}, "does not compile alone")

    def test_lengths_and_the_ratchet(self):
        long = {"src/store/long.c": "\n" * 1201}
        self.expect(long, "1201 lines, at most 1200")
        self.expect({"src/store/store.h": "\n" * 301}, "301 lines, at most 300")
        self.assertEqual(self.found({**long, "tools/long_files.txt": "src/store/long.c 1201 a generated-like table\n"})[0], 0)
        self.expect({**long, "tools/long_files.txt": "src/store/long.c 1201\n" + "src/store/long.c 1201 a table\n"}, "not `path")
        self.expect({"tools/long_files.txt": "src/store/store.c 1300 was long once\n"}, "short enough")

    def test_forbidden_calls(self):
        for call in ("open(p)", "time(NULL)", "printf(\"x\")", "malloc (3)", "rand()", "fsync(fd)", "strcpy(a, b)"):
            self.expect({"src/store/b.c": "void f(void) { %s; }\n" % call}, "is not for store")
        self.assertEqual(self.found({"src/os/b.c": "void f(void) { open(p); time(NULL); }\n"})[0], 0)

    def test_forbidden_words(self):
        self.expect({"docs/a.md": "TO" + "DO: later\n"}, "unfinished work")
        self.expect({"docs/a.md": "see /ro" + "ot/notes\n"}, "a path of one machine")


if __name__ == "__main__":
    unittest.main()
