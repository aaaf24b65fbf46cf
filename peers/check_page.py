"""The server's pages in headless Chromium: chosen, pasted and broken photographs, the table and its CSV, explanations, the
drawing of the network; training runs while they are written; on light and dark, narrow and wide, by keyboard, and without a violation that axe-core knows."""

import argparse
import base64
import re
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright


PHOTO = Path("crates/polynet/src/data/fixtures/images/photo.jpg")
VIEWS = {
    "wide-light": ({"width": 1200, "height": 900}, "light"),
    "wide-dark": ({"width": 1200, "height": 900}, "dark"),
    "narrow-light": ({"width": 360, "height": 740}, "light"),
    "narrow-dark": ({"width": 360, "height": 740}, "dark"),
}
PASTE = """(base64) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([bytes], "pasted.jpg", { type: "image/jpeg" }));
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
}"""


def axe_finds_nothing(page, where):
    found = Axe().run(page)
    assert found.violations_count == 0, f"{where}: {found.generate_report()}"


@contextmanager
def opened(browser, address, name, pictures, what):
    """The page for photographs in one view; at the end whatever page it has become must fit the screen, please axe-core,
    and have had no error and no request to others."""
    view, scheme = VIEWS[name]
    page = browser.new_page(viewport=view, color_scheme=scheme)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if not request.url.startswith((address, "blob:", "data:")) else None)
    page.goto(address)
    yield page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}, {what}: wider than the screen"
    axe_finds_nothing(page, f"{name}, {what}")
    if pictures:
        page.screenshot(path=pictures / f"{name}-{what}.png", full_page=True)
    assert not errors, f"{name}, {what}: {errors}"
    page.close()


def walk(page, name):
    """All that the page for photographs does."""
    expect(page.locator("#model option")).to_have_count(1)
    axe_finds_nothing(page, f"{name}, empty")
    good = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": PHOTO.read_bytes()}
    page.set_input_files("#files", [good, {**good, "name": "broken.jpg", "buffer": b"no picture"}])
    expect(page.locator("#status")).to_have_text("Done")
    expect(page.locator(".detail.wrong")).to_contain_text("JPEG or PNG")
    page.evaluate(PASTE, base64.b64encode(PHOTO.read_bytes()).decode())
    expect(page.locator("article h2").first).to_have_text("pasted.jpg")
    expect(page.locator("#rows tr")).to_have_count(2)
    # By keyboard alone.
    why = page.locator("article").first.get_by_role("button", name="Why?")
    why.focus()
    page.keyboard.press("Enter")
    drawing = page.locator("article").first.locator(".explanation img")
    expect(drawing).to_be_visible()
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#drawing")).to_have_attribute("src", re.compile("^blob:"))
    for image in ["article .photo >> nth=0", "article .explanation img >> nth=0", "#drawing"]:
        page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=page.locator(image).element_handle())
    with page.expect_download() as download:
        page.locator("#csv").click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert rows[0] == "image,class,probability" and len(rows) == 3, rows


def walk_runs(page, another):
    """What the page of runs does; `another` makes one more run."""
    page.get_by_role("link", name="Training runs").click()
    rows = page.locator("#runs tr")
    expect(rows.nth(1)).to_be_visible()
    before = rows.count()
    loaded = "image => image.complete && image.naturalWidth > 0"
    for image in [".curves", ".confusion"]:
        expect(page.locator(image)).to_have_count(1)
        page.wait_for_function(loaded, arg=page.locator(image).element_handle())
    expect(page.locator("#differences")).to_be_hidden()
    other = page.locator("#runs input:not(:checked)").first
    other.focus()
    page.keyboard.press("Space")
    expect(page.locator(".curves")).to_have_count(2)
    expect(page.locator("#keys th")).to_contain_text(["training.batch_size"])
    another()
    expect(rows).to_have_count(before + 1, timeout=20_000)


def trained(polynet, folder, batch_size=8):
    """A small model after two steps."""
    settings = [f"training.batch_size={batch_size}", "training.duration=2 steps", "training.validate_every=0 steps", "schedule.warm_up=1 step"]
    subprocess.run([polynet, "train", "recipes/first.toml", *settings, "--out", folder], check=True, capture_output=True)
    return Path(folder) / "model"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--polynet", required=True)
    arguments.add_argument("--model", help="a model folder; by default one that is trained for two steps")
    arguments.add_argument("--pictures", type=Path, help="where screenshots go")
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        runs = Path(folder) / "runs"
        model = trained(arguments.polynet, runs / "of-8")
        trained(arguments.polynet, runs / "of-16", 16)
        model = arguments.model or model
        command = [arguments.polynet, "serve", model, "--runs", runs, "--listen", "127.0.0.1:0", "--log", "off"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            address = re.search(r"http://[^\s;]+", server.stderr.readline()).group()
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            for number, name in enumerate(VIEWS):
                with opened(browser, address, name, arguments.pictures, "photographs") as page:
                    walk(page, name)
                another = lambda: trained(arguments.polynet, runs / f"while-{name}", 2 + number)
                with opened(browser, address, name, arguments.pictures, "runs") as page:
                    walk_runs(page, another)
                print(f"{name}: ok")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
