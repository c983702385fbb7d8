"""The widgets of the built book in a real browser: what they say is what was recorded, or what networkx computes.

Widgets are found by their names on the pages; one that no page has yet is skipped.
"""

import re
from urllib.parse import urlencode

import networkx as nx
import numpy as np
import pytest
from browser import CONTROL, DESKTOP, PHONE, visit, wait_until_drawn
from test_book import HTML, PAGES, home, pytestmark, site, source  # noqa: F401  (fixtures and marks)

import modlib
from modlib.book.widgets.base import unpack
from modlib.cost import cost
from modlib.pruning import prune
from modlib.results import find_results

NAMES = ("graph-lab", "explorer", "graph-explorer", "pruning-explorer")
ON_PAGES = [
    (page, name) for page in PAGES for name in NAMES
    if (HTML / f"{page}.html").exists() and re.search(rf'"name": "{name}"', source(page))
]  # fmt: skip
every_widget = pytest.mark.parametrize("page_name, name", ON_PAGES)
each_kind = pytest.mark.parametrize("name", dict.fromkeys(name for _, name in ON_PAGES))  # what does not depend on its data


def page_of(name: str) -> str:
    pages = [page for page, each in ON_PAGES if each == name]
    return pages[0] if pages else pytest.skip(f"no page has the widget {name}")


def index(page, name: str) -> int:
    return page.evaluate(f"bookWidgets.findIndex(each => each.model.get('name') === '{name}')")


def box(page, name: str):
    """The place of the widget `name`; widgets of one page get ready in any order, so not its turn in bookWidgets."""
    places = "[...document.querySelectorAll('.book-widget')]"
    return page.locator(".book-widget").nth(
        page.evaluate(f"{places}.findIndex(place => place.contains(bookWidgets[{index(page, name)}].box))")
    )


def read(page, name: str, trait: str = "setting"):
    return page.evaluate(f"bookWidgets[{index(page, name)}].model.get('{trait}')")


def said(widget) -> str:
    return " ".join(widget.locator("[role=status]").all_inner_texts()).replace("\u2212", "-")


def q_said(widget) -> float:
    return float(re.search(r"Q (?:=|goes from) (-?\d\.\d+)", said(widget))[1])


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


def test_the_laboratory_says_what_networkx_computes(browser, site):
    with visit(browser, site, page_of("graph-lab")) as page:
        lab = box(page, "graph-lab")
        presets = read(page, "graph-lab", "data")["presets"]

        def check():
            setting = read(page, "graph-lab")
            preset = presets[setting["graph"]]
            graph = nx.Graph()
            graph.add_nodes_from(range(len(preset["at"])))
            graph.add_weighted_edges_from(preset["edges"])
            if setting["edges"]:
                graph.clear_edges()
                for i, j, w in re.findall(r"(\d+)-(\d+)(?:\*([\d.]+))?", setting["edges"]):
                    graph.add_edge(int(i), int(j), weight=float(w or 1))
            labels = [ord(c) - 65 for c in setting["groups"]] or preset["groups"]
            groups = [np.flatnonzero(np.array(labels) == c).tolist() for c in sorted(set(labels))]
            q = nx.community.modularity(graph, groups)
            assert q_said(lab) == pytest.approx(q, abs=6e-4), setting
            terms = [
                float(each.replace("−", "-"))
                for each in lab.locator("svg text").all_text_contents()
                if re.fullmatch(r"[+−]?0\.\d{3}", each)
            ]
            assert sum(terms) == pytest.approx(q, abs=5.1e-4 * len(groups))
            return q

        heard = [check()]
        lab.locator("input[name=weight]").press("End")
        heard.append(check())
        lab.locator("input[type=radio]:not(:checked)").first.click()
        heard.append(check())
        for graph in presets:
            lab.locator("select[name=graph]").select_option(graph)
            heard.append(check())
        lab.locator("button", has_text="Shuffle").click()
        heard.append(check())
        assert len(set(np.round(heard, 3))) >= 8
        lab.locator("select[name=graph]").select_option("triangles")
        nodes = lab.locator("svg").first.locator("g:has(text)")
        nodes.nth(5).click()
        nodes.nth(5).click()  # the second tap gives it to the next community
        assert read(page, "graph-lab")["groups"] == "AAABBC"
        check()


def test_the_graph_explorer_says_the_recorded_modularity(browser, site):
    with visit(browser, site, page_of("graph-explorer")) as page:
        explorer = box(page, "graph-explorer")
        data = read(page, "graph-explorer", "data")
        version, labels = data["versions"]["clean"], np.array(data["labels"])
        near = unpack(version["neighbours"], "<u2", 1).reshape(len(data["layers"]), data["n"], data["k"]).astype(int)
        heard = set()
        for control, key in [
            ("layer", "End"),
            ("k", "Home"),
            ("k", "ArrowRight"),
            ("layer", "ArrowLeft"),
            ("image", "ArrowRight"),
        ]:
            explorer.locator(f"input[name={control}]").press(key)
            setting = read(page, "graph-explorer")
            layer, k, image = setting["layer"], setting["k"], setting["image"]
            text = said(explorer)
            assert q_said(explorer) == pytest.approx(version["q"][layer][k - 1], abs=5.1e-4)
            same = (labels[near[layer, image, :k]] == labels[image]).sum()
            counted = (
                f"its one neighbour in this layer is {'' if same else 'not '}of" if k == 1 else f"{same} of its {k} neighbours"
            )
            assert counted in text and data["layers"][layer] in text
            heard.add(text)
        assert len(heard) == 5
        for row in explorer.locator(".ml-class").all()[:2]:
            row.click()
            assert row.get_attribute("aria-pressed") == "true"
        explorer.locator("input[name=k]").press("End")
        cut = "e => e.scrollWidth > e.clientWidth || e.getBoundingClientRect().right > e.nextSibling.getBoundingClientRect().left"
        for viewport in DESKTOP, {"width": 1400, "height": 900}, PHONE:
            page.set_viewport_size(viewport)
            named = explorer.locator(".ml-row .ml-label")
            assert [each for each in named.all() if each.evaluate(cut)] == []
            assert len({*named.all_inner_texts()}) == named.count()
            assert explorer.evaluate("e => e.scrollWidth <= e.clientWidth")
            assert explorer.locator(".ml-row .ml-thumb").first.evaluate("e => e.clientWidth > 15")


def test_the_modularity_explorer_says_what_was_recorded(browser, site):
    with visit(browser, site, page_of("explorer")) as page:
        explorer = box(page, "explorer")
        heard = set()

        def check():
            setting = read(page, "explorer")
            for record in find_results("curves", model=setting["model"], dataset=setting["dataset"], weights=setting["weights"]):
                q = record.at("q", n=setting["n"], k=setting["k"]).mean(0)
                chosen = [record.coords["layer"].index(name) for name in record.coords[setting["reading"]]]
                first, last = q[chosen][[0, -1]]
                text = said(explorer)
                assert q_said(explorer) == pytest.approx(first, abs=6e-4)
                assert any(abs(number - last) < 6e-4 for number in numbers(text))
                heard.add(text)

        check()
        for control, key in [("n", "Home"), ("k", "End"), ("k", "ArrowLeft"), ("n", "ArrowRight")]:
            explorer.locator(f"input[name={control}]").press(key)
            check()
        assert not find_results("curves") or len(heard) > 3
        assert "Recorded on" in explorer.inner_text()


@pytest.mark.parametrize("weights, control, words", [
    ("training, 20 epochs", "epoch", "after epoch"), ("trained", "n", "N ="), ("trained", "k", "k ="),
])  # fmt: skip
def test_a_kept_curve_has_another_name_than_the_present_one(browser, site, weights, control, words):
    asked = urlencode({"explorer.model": "resnet20", "explorer.weights": weights})
    with visit(browser, site, page_of("explorer"), asked) as page:
        explorer = box(page, "explorer")
        if read(page, "explorer")["weights"] != weights or not explorer.locator(f"input[name={control}]").is_visible():
            pytest.skip("no such curve is on this page")
        explorer.locator(f"input[name={control}]").press("Home")
        before = read(page, "explorer")
        explorer.get_by_role("button", name="Keep this curve").click()
        explorer.locator(f"input[name={control}]").press("ArrowRight")
        now, legend = read(page, "explorer"), explorer.locator(".ml-legend > span").all_inner_texts()
        [kept] = [each for each in legend if each.startswith("kept: ")]
        assert now[control] != before[control]
        assert re.search(rf"{words} {before[control]}\b", kept) and re.search(rf"{words} {now[control]}\b", legend[0])


def test_the_pruning_explorer_says_what_a_pruned_network_costs(browser, site):
    with visit(browser, site, page_of("pruning-explorer")) as page:
        explorer = box(page, "pruning-explorer")
        networks = read(page, "pruning-explorer", "data")["networks"]
        heard = set()

        def check():
            setting = read(page, "pruning-explorer")
            about = networks[setting["network"]]
            model = modlib.build_model(*setting["network"].split("-")[:2])
            off = [about["layers"][int(place) - 1] for place in str(setting["off"]).split("-") if place]
            left, text = cost(prune(model, off)), said(explorer)
            numbers = [float(number) for number in re.findall(r"([\d.]+) M\b", text)]
            macs, params = numbers[0], numbers[2 if off else 1]
            assert (macs, params) == pytest.approx((left.macs / 1e6, left.params / 1e6), abs=6e-3)
            heard.add(text)

        check()
        ours = [name for name in networks if not name.endswith("-paper")]
        for network in [*ours, "vgg19-cifar10-paper"]:
            explorer.locator("select[name=network]").select_option(network)
            check()
            remove = explorer.locator("button", has_text=re.compile(r"^Remove layer"))
            for _ in range(2):
                while remove.count() == 0 or remove.is_disabled():  # it is removed, or cannot go
                    explorer.locator("input[name=layer]").press("ArrowRight")
                remove.click()
                check()
        assert len(heard) >= 3 * len(ours)
        for network in ours:
            explorer.locator("select[name=network]").select_option(network)
            menu = explorer.locator("select[name=variant]")
            names = dict(menu.locator("option").evaluate_all("all => all.map(each => [each.text, each.value])"))
            assert len({*names.values()}) == len(names)
            for name, off in names.items():
                if off:
                    menu.select_option(off)
                    sentence = re.search(r"Accuracy of this network \((.*)\), measured: (.*?)\.(?= |$)", said(explorer))
                    results = sentence[2].split("; ")
                    assert sentence[1] == name and len({*results}) == len(results)


@every_widget
def test_the_address_leads_to_the_same_setting(browser, home, page_name, name):
    with visit(browser, home, page_name) as page:
        for slider in box(page, name).locator("input[type=range]:visible:enabled").all():
            slider.press("ArrowLeft")
            slider.press("ArrowLeft")
        page.wait_for_timeout(400)  # the address follows after a moment
        setting, text, address = read(page, name), said(box(page, name)), page.url
        assert f"{name}." in address
        page.goto("about:blank")
        page.goto(address)
        wait_until_drawn(page)
        assert read(page, name) == setting
        assert said(box(page, name)) == text


@each_kind
def test_an_address_with_any_words_opens_a_working_figure(browser, home, name):
    """All controls at once, and the kept curve; also words that every object of a page's scripts has."""
    page_name = page_of(name)
    with visit(browser, home, page_name) as page:
        setting = read(page, name)
        for value in ("99x", "constructor", "length", "__proto__", "<b>x</b>", "0.5", "-1"):
            kept = "*".join(["resnet20", "cifar10", "trained", "none", value, "500", "3", "0"])
            asked = {f"{name}.{key}": value for key in setting} | ({"explorer.kept": kept} if name == "explorer" else {})
            page.goto(f"{home}/{page_name}.html?{urlencode(asked | {'other': 'kept'})}")
            wait_until_drawn(page)
            widget = box(page, name)
            assert q_said(widget) is not None and not re.search("undefined|NaN|could not", widget.inner_text()), value
            widget.locator("input[type=range]:visible:enabled").first.press("ArrowRight")
        page.wait_for_timeout(400)
        assert "other=kept" in page.url


def test_an_attack_is_drawn_beside_its_own_images(browser, site):
    with visit(browser, site, page_of("explorer"), "explorer.model=resnet20&explorer.attack=pgd+(pixels)") as page:
        explorer = box(page, "explorer")
        options = explorer.locator("select[name=attack] option").all()
        if len(options) < 2:
            pytest.skip("no attack is on this page")
        attack = options[-1].get_attribute("value")
        explorer.locator("select[name=attack]").select_option(attack)
        series = next(
            each for each in read(page, "explorer", "data")["series"]
            if (each["model"], each["attack"]) == ("resnet20", attack)
        )  # fmt: skip
        setting, layers = read(page, "explorer"), len(series["layers"])
        start = (series["n"].index(setting["n"]) * len(series["k"]) + series["k"].index(setting["k"])) * layers
        clean = unpack(series["clean"])[start + series["readings"][setting["reading"]][-1]]
        found = re.search(r"the same images before: (-?\d\.\d+)", said(explorer))
        assert float(found[1]) == pytest.approx(clean, abs=6e-4)
        assert "none: clean images" not in explorer.locator(".ml-legend").inner_text()


@every_widget
def test_every_control_is_reached_by_keyboard(browser, site, page_name, name):
    with visit(browser, site, page_name) as page:
        widget = box(page, name)
        wanted = {
            each.evaluate("e => e.name || e.textContent")
            for each in widget.locator(CONTROL).all()
            if each.get_attribute("type") != "radio"
        }  # of radios, the chosen one is the stop
        widget.locator(CONTROL).first.focus()
        reached = set()
        for _ in range(60):
            inside, what = page.evaluate(
                """() => { const e = document.activeElement;
                    return [!!e.closest(".book-widget"), e.name || e.textContent] }"""
            )
            if not inside:
                break
            reached.add(what)
            page.keyboard.press("Tab")
        assert wanted <= reached


@every_widget
def test_the_table_behind_a_picture_holds_its_numbers(browser, site, page_name, name):
    with visit(browser, site, page_name) as page:
        widget = box(page, name)
        widget.locator("summary").click()
        widget.locator("td").first.wait_for()  # the table is filled when it is first opened
        cells = widget.locator("td").all_inner_texts()
        assert len(cells) > 4
        values = numbers(" ".join(cells).replace("\u2212", "-"))
        assert any(abs(value - q_said(widget)) < 6e-4 for value in values)


@every_widget
def test_a_widget_follows_the_theme_at_once(browser, site, page_name, name):
    colours = """box => { const e = box.querySelector(".ml"); const c = box.querySelector("canvas");
        return [getComputedStyle(e).color, c ? c.toDataURL().length : 0] }"""
    with visit(browser, site, page_name, color_scheme="light", reduced_motion="reduce") as page:
        widget = box(page, name)
        setting, light = read(page, name), widget.evaluate(colours)
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        page.wait_for_timeout(100)
        dark = widget.evaluate(colours)
        assert light[0] != dark[0] and (not light[1] or light[1] != dark[1])
        assert read(page, name) == setting


def test_points_move_smoothly_unless_motion_is_unwelcome(browser, site):
    drawn = "box => box.querySelector('canvas').toDataURL()"
    for motion, moves in [("no-preference", True), ("reduce", False)]:
        with visit(browser, site, page_of("graph-explorer"), reduced_motion=motion) as page:
            widget = box(page, "graph-explorer")
            widget.scroll_into_view_if_needed()
            layer = widget.locator("input[name=layer]")
            layer.press("End")  # wherever the figure begins
            page.wait_for_timeout(900)
            layer.press("Home")
            at_once = widget.evaluate(drawn)
            page.wait_for_timeout(900)
            assert (widget.evaluate(drawn) != at_once) == moves


@every_widget
@pytest.mark.parametrize("scheme, viewport", [("light", None), ("dark", PHONE)])
def test_an_accessibility_checker_finds_nothing_serious(browser, site, page_name, name, scheme, viewport):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    options = {"color_scheme": scheme, "bypass_csp": True} | ({"viewport": viewport} if viewport else {})
    with visit(browser, site, page_name, **options) as page:
        box(page, name).locator("summary").click()
        found = axe.Axe().run(page, context=".book-widget", options={"preload": False}).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert not serious, [(each["id"], each["help"], [node["html"][:200] for node in each["nodes"][:4]]) for each in serious]


@every_widget
def test_without_scripts_a_still_picture_and_its_words_remain(browser, site, page_name, name):
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(f"{site}/{page_name}.html")
        stills = page.locator(".book-still img").all()
        alts = [still.get_attribute("alt") for still in stills if still.is_visible()]
        words = {
            "graph-lab": "edges, weights and communities",
            "explorer": "Modularity over",
            "graph-explorer": "nearest-neighbour",
            "pruning-explorer": "may be taken off",
        }
        assert any(words[name] in (alt or "") for alt in alts), alts
        assert page.locator(".book-still p", has_text="runs scripts").first.is_visible()
    finally:
        context.close()
