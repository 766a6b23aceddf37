"""docs/hostile.rst, held against the tests that it names."""

import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "hostile.rst"


class PageTests(unittest.TestCase):
    def test_tests(self) -> None:
        """Each test that the page names is where it says."""
        named = re.findall(
            r"^\* ``(tests/\S+)``:((?:\s+``\w+``,?)+)", PAGE.read_text(), re.M
        )
        self.assertTrue(named)
        for module, names in named:
            text = (ROOT / f"{module}.py").read_text()
            for name in re.findall(r"\w+", names):
                self.assertIn(f"def {name}(", text, module)

    def test_rows(self) -> None:
        """Each row has its section, with a test, or is said not to apply."""
        page, later = PAGE.read_text().split("Not applicable yet", 1)
        sections = re.split(r"^(\d+)\. .*\n-+\n", page, flags=re.M)[1:]
        rows = dict(zip(sections[::2], sections[1::2], strict=True))
        for row, section in rows.items():
            self.assertIn(f"_h{int(row):02}_", section)
        not_yet: set[int] = set()
        for first, last in re.findall(r"^\* (\d+)(?:-(\d+))?:", later, re.M):
            not_yet.update(range(int(first), int(last or first) + 1))
        self.assertEqual(set(map(int, rows)) | not_yet, set(range(1, 53)))
