"""The page's modules, joined into one script."""

import re

from xtalgen.explorer.scripts import PAGE, bundle

MODULES = {path.name: path.read_text() for path in PAGE.glob("*.js")}
EXPORT = r"^export (?:async )?(?:function|class|const|let) ([\w$]+)"
TOP_LEVEL = r"^(?:export )?(?:async )?(?:function|class|const|let) ([\w$]+)"


def test_bundle_holds_every_module_after_its_imports():
    text = bundle()
    places = {name: text.index(f"// {name}\n") for name in MODULES}
    for name, content in MODULES.items():
        for imported in re.findall(r'from "\./([\w-]+\.js)"', content):
            assert places[imported] < places[name], f"{name} stands before {imported}"
    assert not re.search(r"^(import|export)\b", text, re.MULTILINE)


def test_imported_names_are_exported():
    for name, content in MODULES.items():
        for names, imported in re.findall(r'^import \{([^}]*)\} from "\./([\w-]+\.js)";', content, re.MULTILINE):
            exported = re.findall(EXPORT, MODULES[imported], re.MULTILINE)
            missing = {item.strip() for item in names.split(",") if item.strip()} - set(exported)
            assert not missing, f"{name} imports {missing} from {imported}"


def test_top_level_names_differ():
    names = [name for content in MODULES.values() for name in re.findall(TOP_LEVEL, content, re.MULTILINE)]
    assert len(names) == len(set(names)), {name for name in names if names.count(name) > 1}
