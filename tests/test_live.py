"""The live laboratory on the built book: what a browser computes, held against the library; and what stands there where it cannot.

Build the book first (`make book`).
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import psutil
import pytest
import torch
from browser import CONTROL, PHONE, serve, visit
from PIL import Image

import modlib
from modlib.attacks import algorithms

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"
MANIFEST = HTML / "_static" / "live" / "manifest.json"
PAGE = "book/live"

# The graph of a layer is of the sample that the curve is of: its Q is the curve's.
GRAPH = """() => {
    const said = document.querySelector(".ml-live .ml-graph .ml-say").textContent;
    const [, layer, q] = /^Layer (\\d+) .*?Q = ([−.\\d]+)\\./.exec(said);
    const of = / attacked images, /.test(said) ? "attacked" : "clean";
    return Math.abs(q.replace("−", "-") - bookLive[0].result[of][layer - 1].q);
}"""
# Something else is asked for while the points are placed, before the graph comes.
INTERRUPT = """() => {
    const words = document.querySelector(".ml-live .ml-busy [role=status]");
    new MutationObserver((_, watch) => {
        if (words.textContent !== "Placing the points") return;
        watch.disconnect();
        bookLive[0].ask({ kind: "set" });
    }).observe(words, { childList: true });
}"""
CAMERA = """
    window.streams = [];
    navigator.mediaDevices.getUserMedia = async () => {
        const canvas = document.createElement("canvas");
        canvas.getContext("2d").fillRect(0, 0, 64, 64);
        streams.push(canvas.captureStream());
        return streams.at(-1);
    };
"""
SLOW = """() => {
    const decode = createImageBitmap;
    window.createImageBitmap = (file) => new Promise((go) => (window.release = go)).then(() => decode(file));
}"""
SKIP = "() => [...document.links].find(each => each.textContent === 'Skip to the first interactive figure').click()"
ON = "() => streams.map(each => each.active)"

IDLE = "() => bookLive[0].result && document.querySelector('.ml-live .ml-busy').hidden"
PIXELS = "() => bookLive[0].pixels.map(each => Array.from(each))"


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_what_needs_no_page():
    run = subprocess.run(["node", "--test", Path(__file__).parent / "live.test.mjs"], capture_output=True, text=True)
    assert run.returncode == 0 and "# fail 0" in run.stdout, run.stdout + run.stderr


def whole() -> bool:
    return MANIFEST.exists() and json.loads(MANIFEST.read_text())["runtime"] is not None


needs_book = pytest.mark.skipif(
    not os.environ.get("CI") and not whole(), reason="the book, or its runtime, is not built: make book"
)


@pytest.fixture(scope="module")
def home():
    with serve(HTML) as address:
        yield address


@pytest.fixture(scope="module")
def pool():
    return modlib.load_images("cifar10")


def begin(page) -> None:
    page.get_by_role("button", name="Start", exact=True).click()
    settle(page)


def settle(page) -> None:
    """Wait until the worker has answered for what the controls say; a busy machine takes its time."""
    page.wait_for_timeout(100)
    page.wait_for_function(IDLE, timeout=300_000)


def choose(page, **setting) -> dict:
    """Move controls; the laboratory's answer."""
    for name, value in setting.items():
        control = page.locator(f".ml-live [name='{name}']").first
        kind = control.evaluate("e => e.type")
        if kind == "number":
            control.fill(str(value))
            control.press("Tab")
        elif kind == "range":  # a slider over listed values: by its place
            control.evaluate("(e, place) => { e.value = place; e.dispatchEvent(new Event('input')); }", value)
        else:
            control.select_option(str(value))
    settle(page)
    return page.evaluate("() => bookLive[0].result")


def uniform(seed: int, n: int) -> np.ndarray:
    """The numbers of chance.js."""
    with np.errstate(over="ignore"):
        state = np.uint32(seed) + np.uint32(0x6D2B79F5) * np.arange(1, n + 1, dtype=np.uint32)
        mixed = (state ^ (state >> np.uint32(15))) * (state | np.uint32(1))
        mixed ^= mixed + (mixed ^ (mixed >> np.uint32(7))) * (mixed | np.uint32(61))
    return (mixed ^ (mixed >> np.uint32(14))) / 2.0**32


def normal(seed: int, n: int) -> np.ndarray:
    u = uniform(seed, n + n % 2)
    radius, angle = np.sqrt(-2 * np.log(1 - u[::2])), 2 * np.pi * u[1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)[:n]


def noisy(x: np.ndarray, ids: list[int], deviation: float) -> np.ndarray:
    noise = np.array([normal(i, 3072) for i in ids]).reshape(x.shape)
    return np.clip(x + deviation * noise, 0, 1).astype(np.float32)


def shuffled(model, share: float, seed: int = 1):
    """The library's network with the weights that weights.js shuffles."""
    state, place = model.state_dict(), -1
    for tensor in state.values():
        if not tensor.is_floating_point():
            continue
        place += 1
        if tensor.ndim < 2:
            continue
        flat, count = tensor.flatten(), int(np.floor(share * tensor.numel() + 0.5))
        everything = np.arange(len(flat))
        for i, u in enumerate(uniform(seed + place, count)):
            j = i + int(u * (len(flat) - i))
            everything[[i, j]] = everything[[j, i]]
        chosen = everything[:count].copy()
        flat[np.sort(chosen)] = flat[chosen].clone()
        tensor.copy_(flat.view(tensor.shape))
    model.load_state_dict(state)
    return model


def untrained(name: str, seed: int = 1):
    """The library's network with the weights that weights.js draws: those of convolutions normal, of linear layers uniform."""
    model = modlib.build_model(name)
    state, place = model.state_dict(), -1
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        place += 1
        n, owner = tensor.numel(), state[key.rsplit(".", 1)[0] + ".weight"]
        if tensor.ndim == 4:
            values = np.sqrt(2 / (n / tensor.shape[1])) * normal(seed + place, n)
        elif owner.ndim == 2:
            values = (2 * uniform(seed + place, n) - 1) / np.sqrt(owner.shape[1])
        else:
            values = np.full(n, float(key.endswith((".weight", ".running_var"))))
        tensor.copy_(torch.from_numpy(values.astype(np.float32)).view(tensor.shape))
    model.load_state_dict(state)
    return model.eval()


@pytest.mark.browser
@needs_book
def test_other_weights_are_those_of_the_rule(browser, home, pool):
    """Untrained, and a share shuffled: Q of the library for the very same weights. Of 500 images VGG11's first layer is never
    there as a whole."""
    wanted = {
        "network=vgg11&weights=untrained": untrained("vgg11"),
        "network=vgg11&weights=shuffled&share=20": shuffled(modlib.load_model("vgg11"), 0.2),
        "network=resnet20&weights=untrained": modlib.build_model("resnet20", seed=0).eval(),
        "network=resnet56&weights=shuffled&share=50": shuffled(modlib.load_model("resnet56"), 0.5),
    }
    for setting, model in wanted.items():
        with visit(browser, home, PAGE, "&".join(f"live.{each}" for each in [*setting.split("&"), "n=500", "k=3"])) as page:
            begin(page)
            answer = page.evaluate("() => bookLive[0].result")
            assert answer["setting"]["weights"] in setting and answer["setting"]["network"] in setting
        q = modlib.modularity(modlib.dynamic_graph(model, pool.x[:500], 3), pool.y[:500])
        np.testing.assert_allclose([each["q"] for each in answer["clean"]], q, atol=1e-4, err_msg=setting)
        assert np.ptp(q) > 0.01, "a flat line would agree with much"


@pytest.mark.browser
@needs_book
def test_every_number_is_the_librarys(browser, home, pool):
    model = modlib.load_model("resnet20")
    asked = []  # of files that hold data, not scripts
    with visit(browser, home, PAGE) as page:
        data = (".gz", ".webp", ".onnx", ".json")
        page.on("request", lambda request: request.url.endswith(data) and asked.append(request.url.rsplit("/", 1)[1]))
        explorer = page.locator(".ml-explorer")
        assert explorer.is_visible()
        told = page.locator(".ml-start .ml-say").inner_text()
        sent = json.loads(MANIFEST.read_text())["runtime"]["files"][1]["bytes"]
        assert f"{sent / 1e6:.1f} MB of them a runtime" in told
        assert {*asked} <= {"manifest.json"}, "nothing else is fetched before Start"
        begin(page)
        assert not explorer.is_visible()
        wire = sum((HTML / "_static" / "live" / name).stat().st_size for name in set(asked))
        assert wire < 6e6, asked

        def agrees(answer, x, y, k=3, of="clean", net=model):
            graph = modlib.dynamic_graph(net, x, k)
            np.testing.assert_allclose([each["q"] for each in answer[of]], modlib.modularity(graph, y), atol=1e-4)
            share = [(y[each.neighbors] == y[:, None])[each.weights > 0].mean() for each in graph.graphs]
            np.testing.assert_allclose([each["same"] for each in answer[of]], share, atol=1e-4)
            with torch.no_grad():
                floats = torch.as_tensor(x / 255 if x.dtype == np.uint8 else x, dtype=torch.float32)
                guess = net(floats).argmax(1).numpy()
            if answer["groups"] == list(pool.classes):
                q = modlib.modularity(graph, guess)
                np.testing.assert_allclose([each["predicted"] for each in answer[of]], q, atol=1e-4)

        answer = page.evaluate("() => bookLive[0].result")
        assert answer["ids"] == [*range(500)]
        agrees(answer, pool.x[:500], pool.y[:500])
        asked.clear()
        agrees(choose(page, k=20), pool.x[:500], pool.y[:500], k=20)
        kinds = np.isin(pool.y, [0, 1, 8, 9]).astype(int)
        agrees(choose(page, k=5, groups="kinds"), pool.x[:500], kinds[:500], k=5)
        agrees(choose(page, n=60), pool.x[:60], kinds[:60], k=5)
        assert not asked, "what is there is not fetched again"
        # the rest with few images
        ids = choose(page, groups="classes", k=3, n=60, corruption="noise", strength=1)["ids"]
        x = (pool.x[ids] / 255).astype(np.float32)
        agrees(page.evaluate("() => bookLive[0].result"), noisy(x, ids, 0.08), pool.y[ids])
        images, y = torch.from_numpy((pool.x[:100] / 255).astype(np.float32)), torch.from_numpy(pool.y[:100])
        turns = {"eps": 8 / 255, "nb_iter": 10, "eps_iter": 2.5 * 8 / 255 / 10, "rand_init": False}
        attacks = {"fgsm": (algorithms.fgsm, {"eps": 8 / 255}, 0.999), "pgd": (algorithms.pgd, turns, 0.95)}
        for attack, (algorithm, how, same) in attacks.items():
            answer = choose(page, n=100, corruption="none", attack=attack)
            page.evaluate("() => bookLive[0].ask({ kind: 'show' })")
            settle(page)
            attacked = np.array(page.evaluate(PIXELS), np.float32).reshape(-1, 3, 32, 32)
            agrees(answer, attacked, pool.y[:100], of="attacked")
            # Signs that rounding decides lead elsewhere, as from float32 to float64; what becomes of the network is the same.
            both = [algorithm(model, images, y, [], **how), torch.from_numpy(attacked)]
            assert ((both[1] - both[0]).abs() < 1e-6).double().mean() > same
            assert (both[1] - images).abs().max() <= 8 / 255 + 1e-6 and 0 <= both[1].min() and both[1].max() <= 1
            with torch.no_grad():
                logits = [model(each) for each in both]
            loss = [torch.nn.functional.cross_entropy(each, y).item() for each in logits]
            fooled = [(each.argmax(1) != y).sum().item() for each in logits]
            assert abs(loss[1] - loss[0]) < 0.01 * loss[0] and abs(fooled[1] - fooled[0]) <= 1
        answer = choose(page, n=60, attack="none", weights="shuffled", share=3)  # the fourth: 10 %
        with torch.no_grad():
            agrees(answer, pool.x[ids], pool.y[ids], net=shuffled(modlib.load_model("resnet20"), 0.1))


@pytest.mark.browser
@needs_book
def test_every_control_moves_and_bad_input_is_told(browser, home, pool, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with visit(browser, home, PAGE, "live.n=40&live.k=2", viewport=PHONE, color_scheme="dark", bypass_csp=True) as page:
        assert "N = 40, k = 2" in page.locator(".ml-start").inner_text()
        begin(page)
        page.evaluate(SKIP)
        assert page.evaluate("document.activeElement.className") == "book-live"
        live = page.locator(".ml-live")
        say = live.locator("> div:not([hidden]) > .ml-say")
        for control in live.locator(f".ml-controls {CONTROL}").all():
            assert control.evaluate("e => e.labels.length > 0 || e.closest('[role=radiogroup]').ariaLabel.length > 0")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
        found = axe.Axe().run(page, context=".book-live", options={"preload": False}).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert not serious, [(each["id"], [node["html"][:200] for node in each["nodes"][:4]]) for each in serious]
        heard = {say.inner_text()}
        for move in ({"draw": 1}, {"k": 39}, {"weights": "untrained"}, {"weights": "trained", "corruption": "blur"}):
            choose(page, **move)
            heard.add(say.inner_text())
        assert len(heard) == 5
        choose(page, k=3)
        page.evaluate(INTERRUPT)
        choose(page, draw=2)
        assert page.evaluate(GRAPH) < 6e-4
        notes = live.locator("div.ml-note[role=status]")
        live.locator("[name=n]").fill("5000")
        live.locator("[name=n]").press("Tab")
        assert "more than the 2500 images" in notes.inner_text()
        choose(page, n=600)
        assert "more than" not in notes.inner_text(), "told once"
        choose(page, n=40, k=40)
        assert "k = 40 is not below N = 40: 39 instead" in notes.inner_text()
        assert choose(page, n=60)["setting"]["k"] == 39
        choose(page, n=40, k=3, groups="own")
        for name in pool.classes:
            live.locator(f"[name=group-{name}]").select_option("-")
        assert "No class takes part" in notes.inner_text()
        answer = choose(page, **{"group-cat": "A", "group-dog": "B"})
        assert answer["groups"] == ["cat", "dog"] and answer["setting"]["n"] == 40, "what was asked for comes back"
        for name in pool.classes:
            live.locator(f"[name=group-{name}]").select_option("A")
        assert "at least two groups" in notes.inner_text() and "Q is not defined" in say.inner_text()
        live.locator("[name=group-frog]").select_option("B")
        settle(page)
        assert page.evaluate("() => bookLive[0].result.groups") == ["group A", "frog"]
        page.wait_for_url("**live.groups=AAAAAABAAA**")
        # pictures of one's own
        for name, content, says in (
            ("no.png", b"not a picture", "is no picture that this browser can read"),
            ("huge.png", b"\0" * 41_000_000, "41 MB; up to 40 MB"),
        ):
            (tmp_path / name).write_bytes(content)
            live.locator("[type=file]").set_input_files(tmp_path / name)
            live.get_by_text(says).wait_for()
        frames = [Image.new("RGBA", (90, 60), (200, 60, 10, alpha)) for alpha in (0, 255)]
        frames[0].save(tmp_path / "moves.webp", save_all=True, append_images=frames[1:], lossless=True)
        live.locator("[name=attack]").select_option("fgsm")
        live.locator("[type=file]").set_input_files(tmp_path / "moves.webp")  # while the curve is computed
        page.wait_for_function("() => bookLive[0].picture", timeout=100_000)
        settle(page)
        told = live.locator(".ml-picture").inner_text()
        assert "What is transparent became white. Of a picture that moves, the first frame counts." in told
        assert "takes your picture for:" in told and "Your picture, predicted" in live.locator(".ml-graph").inner_text()
        result = page.evaluate("() => bookLive[0].result")
        assert result["setting"]["attack"] == "fgsm" and len(result["attacked"]) == 10 and "computed" not in say.inner_text()
        shares = page.evaluate("() => bookLive[0].picture.before")
        with torch.no_grad():
            wanted = modlib.load_model("resnet20")(torch.ones(1, 3, 32, 32)).softmax(1)[0].numpy()
        np.testing.assert_allclose(shares, wanted, atol=1e-4)


@pytest.mark.browser
@needs_book
def test_a_lost_connection_is_told_and_goes_on(browser, home):
    page = browser.new_page()
    page.route("**/resnet20-cifar10.safetensors.gz", lambda route: route.abort())
    nonsense = {"network": "constructor", "weights": "<b>", "k": "1e9", "n": "20", "groups": "ABAB", "eps": "-1"}
    page.goto(f"{home}/{PAGE}.html?" + urlencode({f"live.{key}": value for key, value in nonsense.items()}))
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("button", name="Go on").wait_for(timeout=60_000)
    assert "The connection was lost" in page.locator(".ml-live > .ml-error").inner_text()
    assert page.locator(".ml-explorer").is_visible()
    page.unroute("**/resnet20-cifar10.safetensors.gz")
    page.get_by_role("button", name="Go on").click()
    settle(page)
    assert "no network “constructor”" in page.locator(".ml-live div.ml-note[role=status]").inner_text()
    assert page.evaluate("() => bookLive[0].result.clean.length") == 10
    assert not page.locator(".ml-explorer").is_visible()
    page.close()


@pytest.mark.browser
@needs_book
def test_what_was_recorded_stands_where_it_cannot_run(browser, home):
    with visit(browser, HTML.as_uri(), PAGE) as page:
        assert "opened as a file" in page.locator(".book-live-why").inner_text()
        assert page.locator(".ml-explorer").is_visible()
    context = browser.new_context()
    context.add_init_script("delete window.WebAssembly")
    page = context.new_page()
    page.goto(f"{home}/{PAGE}.html")
    assert "lacks what a network needs (WebAssembly)" in page.locator(".book-live-why").inner_text()
    context.close()


@pytest.mark.browser
@needs_book
@pytest.mark.parametrize("chapter", ["01-quickstart", "03-dynamic-graph", "05-adversarial"])
def test_a_chapter_has_it_folded_away(browser, home, chapter):
    with visit(browser, home, f"notebooks/{chapter}") as page:
        assert page.evaluate("() => !window.bookLive")
        page.locator("details.book-live > summary").click()
        page.get_by_role("button", name="Start", exact=True).wait_for()
        wanted = {"05-adversarial": ["fgsm", 100]}.get(chapter, ["none", 100 if chapter.startswith("03") else 500])
        assert page.evaluate("() => [bookLive[0].setting.attack, bookLive[0].setting.n]") == wanted


@pytest.mark.browser
@needs_book
def test_what_did_not_load_is_asked_for_again(browser, home):
    page = browser.new_page()
    page.route("**/live/manifest.json", lambda route: route.abort())
    page.goto(f"{home}/notebooks/03-dynamic-graph.html?live.n=40")
    page.get_by_text("could not be loaded").wait_for()
    page.unroute("**/live/manifest.json")
    fold = page.locator("details.book-live > summary")
    fold.click()
    fold.click()
    page.get_by_role("button", name="Start", exact=True).wait_for()
    page.close()


@pytest.mark.browser
@needs_book
def test_the_camera_is_off_where_it_is_not_seen(browser, home):
    context = browser.new_context()
    context.add_init_script(CAMERA)
    page = context.new_page()
    page.goto(f"{home}/notebooks/03-dynamic-graph.html?live.n=40")
    begin(page)  # an address that names it unfolds it
    photo = page.get_by_role("button", name="Take a photo")
    photo.click()
    page.get_by_role("button", name="Close the camera").click()
    photo.click()
    photo.click()
    page.get_by_role("button", name="Take it").wait_for()
    page.wait_for_function("() => streams.length === 3")
    assert page.evaluate(ON) == [False, False, True]
    page.locator("details.book-live > summary").click()
    page.wait_for_function("() => !streams.some(each => each.active)")
    context.close()


@pytest.mark.browser
@needs_book
def test_layers_without_an_edge_are_told(browser, home):
    """As of a few images that an attack changed: here of two, unlike each other in the first layer."""
    page = browser.new_page()
    few = (HTML / "_static" / "live" / "settings.js").read_text().replace("FEWEST = 20", "FEWEST = 2")
    page.route("**/live/settings.js", lambda route: route.fulfill(body=few, content_type="text/javascript"))
    page.goto(f"{home}/{PAGE}.html?live.n=2")
    begin(page)
    said = page.locator(".ml-live > div:not([hidden]) > .ml-say").inner_text()
    assert "N = 2, k = 1: in 1 of 10 layers there is no edge; Q goes from −0.500 in layer 2" in said, said
    page.close()


@pytest.mark.browser
@needs_book
def test_a_picture_that_is_read_after_the_end_starts_nothing(browser, home, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "black.png")
    with visit(browser, home, "notebooks/03-dynamic-graph", "live.n=40") as page:
        begin(page)
        page.evaluate(SLOW)
        page.locator(".ml-live [type=file]").set_input_files(tmp_path / "black.png")
        page.wait_for_function("() => window.release")
        page.locator("details.book-live > summary").click()
        page.wait_for_function("() => document.querySelector('.ml-live .ml-busy').hidden")
        page.evaluate("() => release()")
        page.locator("details.book-live > summary").click()
        page.get_by_role("button", name="Start", exact=True).wait_for()
        assert page.locator(".ml-live .ml-busy").is_hidden()


@pytest.mark.browser
@needs_book
def test_the_largest_network_takes_little_memory(browser, home):
    """Of the page's process, beyond what it held before Start: 220 MB were measured. The first layer's features alone are 130."""
    with visit(browser, home, PAGE, "live.network=vgg11") as page:
        page.get_by_role("button", name="Start", exact=True).wait_for()
        about = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
        pages = [psutil.Process(each["id"]) for each in about if each["type"] == "renderer"]
        before, most = {each: each.memory_info().rss for each in pages}, 0
        page.get_by_role("button", name="Start", exact=True).click()
        while not page.evaluate(IDLE):
            most = max(most, *(each.memory_info().rss - before[each] for each in pages))
        assert 100e6 < most < 300e6
