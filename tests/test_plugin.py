"""The three doors through which plugins come."""

import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyClass, verifyObject

from twisted_mta.errors import ConfigError
from twisted_mta.interfaces import IDeliveryAgent, IPolicy
from twisted_mta.plugin import IPlugin, Shelf

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = str(ROOT / "plugins")

GOOD = """
from attrs import frozen
from zope.interface import implementer
from twisted_mta.plugin import IPlugin

@frozen
class Settings:
    pass

@implementer(IPlugin)
class Plugin:
    kind = "policy"
    name = {name!r}
    config = Settings
    def build(self, config, environment):
        return None

plugin = Plugin()
"""


class Doors(TestCase):
    """Finding plugins."""

    def directory(self, **modules: str) -> Path:
        """A directory of modules."""
        path = Path(self.mktemp())
        path.mkdir()
        for name, text in modules.items():
            (path / f"{name}.py").write_text(text)
        return path

    def test_plugin_path(self) -> None:
        """A module in a directory of the config is found."""
        path = self.directory(one=GOOD.format(name="one"))
        shelf = Shelf((), [path], search=[])
        self.assertEqual(shelf.find("policy", "one").name, "one")

    def test_drop_in_package(self) -> None:
        """A module of twisted_mta/plugins below a path entry is found."""
        top = Path(self.mktemp())
        package = top / "twisted_mta" / "plugins"
        package.mkdir(parents=True)
        (package / "two.py").write_text(GOOD.format(name="two"))
        self.assertEqual(Shelf((), (), [str(top)]).find("policy", "two").name, "two")

    def test_entry_point(self) -> None:
        """An installed distribution's entry point is found."""
        top = Path(self.mktemp())
        info = top / "threeplugin-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: x\nVersion: 1\n")
        (info / "entry_points.txt").write_text(
            "[twisted_mta.plugins]\nthree = three_plugin:plugin\n"
        )
        (top / "three_plugin.py").write_text(GOOD.format(name="three"))
        self.patch(sys, "path", [str(top), *sys.path])
        self.addCleanup(sys.modules.pop, "three_plugin", None)
        self.assertEqual(Shelf((), (), []).find("policy", "three").name, "three")

    def test_broken_module(self) -> None:
        """A module that does not import stops the start and is named."""
        path = self.directory(broken="import no_such_module")
        error = self.assertRaises(ConfigError, Shelf, (), [path], [])
        self.assertIn(str(path / "broken.py"), error.problems[0])
        self.assertIn("no_such_module", error.problems[0])

    def test_two_of_one_name(self) -> None:
        """Two plugins of one kind and name stop the start; both are named."""
        path = self.directory(
            first=GOOD.format(name="same"), second=GOOD.format(name="same")
        )
        error = self.assertRaises(ConfigError, Shelf, (), [path], [])
        self.assertIn("first.py", error.problems[0])
        self.assertIn("second.py", error.problems[0])

    def test_unknown(self) -> None:
        """A kind that nobody provides is told with the one probably meant."""
        path = self.directory(one=GOOD.format(name="greylist"))
        error = self.assertRaises(
            LookupError, Shelf((), [path], []).find, "policy", "graylist"
        )
        self.assertIn("did you mean 'greylist'?", str(error))

    def test_examples(self) -> None:
        """The drop-ins of plugins/ are found and are what they say."""
        with tempfile.TemporaryDirectory() as directory:
            shelf = Shelf((), (), [EXAMPLES])
            for kind, name, interface, settings in (
                ("policy", "refuse_helo", IPolicy, {"names": ("localhost",)}),
                ("agent", "archive", IDeliveryAgent, {"directory": Path(directory)}),
            ):
                plugin = shelf.find(kind, name)
                verifyObject(IPlugin, plugin)
                environment = type("Environment", (), {"name": name})
                built = plugin.build(plugin.config(**settings), environment)
                verifyObject(interface, built)
                verifyClass(interface, type(built))
