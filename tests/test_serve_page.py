"""The web page: what its file says, and what a headless Chromium makes of it."""

import shutil
import time

import numpy as np
import pytest
from PIL import Image
from serve_fakes import FakeArtifact, served

from zoo.drawing import class_color

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,860",
)
# A name that would end the script, and one that would start another.
NASTY = ("</script><script>document.title='taken'</script>", '<img src="x" onerror="document.title=\'taken\'">')


class Boxes(FakeArtifact):
    """Finds the same three boxes in every picture, of which one is not certain."""

    def _run(self, inputs):
        images = inputs["images"]
        super()._run(inputs)
        return {
            "boxes": np.repeat([[[20, 30, 60, 70], [80, 10, 110, 80], [5, 5, 15, 15]]], len(images), 0).astype("f4"),
            "scores": np.repeat([[0.9, 0.8, 0.3]], len(images), 0).astype("f4"),
            "classes": np.repeat([[0, 1, 0]], len(images), 0).astype("i4"),
            "num_detections": np.full(len(images), 3, "i4"),
        }


class Classes(FakeArtifact):
    """Says that every picture is most likely of class 1."""

    def _read_metadata(self):
        return super()._read_metadata().replace('"detection"', '"classification"')

    def _run(self, inputs):
        count = len(inputs["images"])
        return {
            "probabilities": np.repeat([[0.25, 0.75]], count, 0),
            "scores": np.repeat([[0.75, 0.25]], count, 0),
            "classes": np.repeat([[1, 0]], count, 0),
        }


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM or not DRIVER:
        pytest.skip("the page is driven in Chromium: install chromium and chromium-driver (chromedriver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def give(browser, path):
    """Choose a file and wait for what the page says of it."""
    browser.find_element("id", "file").send_keys(str(path))
    end = time.monotonic() + 90
    while not (text := browser.find_element("id", "status").text).startswith(path.name) and time.monotonic() < end:
        if browser.find_element("id", "status").get_attribute("class") == "bad":
            return browser.find_element("id", "status").text  # what was read before may be "Looking"
        time.sleep(0.02)
    return text


def rows(browser):
    return browser.find_element("id", "rows").text.splitlines()


def colours(browser, x, y):
    """Of the canvas, in five by five of its pixels around a place in the picture's own: ``(25, 3)``."""
    script = """
      const canvas = document.getElementById("picture");
      const [x, y] = [arguments[0], arguments[1]].map(at => Math.round(at * canvas.width / 120) - 2);
      return [...canvas.getContext("2d").getImageData(x, y, 5, 5).data];
    """
    return np.reshape(browser.execute_script(script, x, y), (25, 4))[:, :3]


def outlined(browser, x, y, index):
    """Whether a line in the colour of a class goes through a place."""
    return (np.abs(colours(browser, x, y) - class_color(index)).max(axis=1) <= 12).any()


def complaints(browser):
    """Errors on the browser's console, such as what the page's policy forbids."""
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_the_page_is_one_file_under_a_strict_policy():
    with served(FakeArtifact(classes=NASTY)) as client:
        answer = client.get("")
    text = answer.text
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for sign in ("http:", "https:", "//cdn", "@import", "<img", "<script src", '<link rel="style', "{{"):
        assert sign not in text, sign
    assert text.count("</script>") == 2  # the data's and the script's own


def test_a_picture_and_its_boxes(browser, tmp_path):
    path = tmp_path / "scene.png"
    Image.new("RGB", (120, 90), (10, 10, 10)).save(path)
    with served(Boxes()) as client:
        browser.get(client.address)
        assert browser.title == "fake-net"
        assert "detection, 2 classes" in browser.find_element("id", "about").text
        assert give(browser, path).startswith("scene.png: 120 x 90 pixels")
        assert rows(browser) == ["dark 90%", "bright 80%"]
        # On the boxes' outlines the colours of zoo.draw, inside them the picture.
        for x, y, index in ((20, 50, 0), (60, 50, 0), (40, 70, 0), (80, 45, 1), (110, 45, 1)):
            assert outlined(browser, x, y, index)
            assert not outlined(browser, x, y, 1 - index)
        for x, y in ((40, 50), (95, 45), (10, 10)):
            assert (colours(browser, x, y) == 10).all()
        browser.execute_script("least.value = 20; least.oninput()")
        assert rows(browser) == ["dark 90%", "bright 80%", "dark 30%"]
        browser.execute_script("least.value = 95; least.oninput()")
        assert rows(browser) == ["Nothing found with this score or more"]
        loaded = browser.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
        assert loaded == [f"{client.address}v1/models/fake-net:predict"]
        assert complaints(browser) == []


def test_a_photograph_is_shown_upright(browser, tmp_path):
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 120), (10, 10, 10)).save(path, exif=exif)
    with served(Boxes()) as client:
        browser.get(client.address)
        assert "120 x 90 pixels" in give(browser, path)
        assert outlined(browser, 20, 50, 0)
        assert outlined(browser, 60, 50, 0)


def test_a_picture_that_is_dropped(browser):
    drop = """
      const canvas = new OffscreenCanvas(120, 90);
      canvas.getContext("2d").fillRect(0, 0, 120, 90);
      canvas.convertToBlob().then(blob => {
        const data = new DataTransfer();
        data.items.add(new File([blob], "dropped.png", { type: "image/png" }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
      });
    """
    with served(Boxes()) as client:
        browser.get(client.address)
        browser.execute_script(drop)
        end = time.monotonic() + 90
        while "dropped.png" not in browser.find_element("id", "status").text and time.monotonic() < end:
            time.sleep(0.02)
        assert rows(browser) == ["dark 90%", "bright 80%"]


def test_names_are_shown_as_they_are(browser, tmp_path):
    path = tmp_path / "scene.png"
    Image.new("RGB", (120, 90)).save(path)
    with served(Boxes(classes=NASTY)) as client:
        browser.get(client.address)
        give(browser, path)
        assert rows(browser) == [f"{NASTY[0]} 90%", f"{NASTY[1]} 80%"]
        assert browser.title == "fake-net"
        assert complaints(browser) == []


def test_what_is_wrong_is_said(browser, tmp_path):
    text, good = tmp_path / "notes.png", tmp_path / "scene.png"
    text.write_text("no picture")
    Image.new("RGB", (120, 90)).save(good)
    with served(Boxes(), max_pixels=20_000) as client:
        browser.get(client.address)
        give(browser, good)
        assert "not an image" in give(browser, text)
        assert not browser.find_element("id", "result").is_displayed()
        Image.new("RGB", (200, 200)).save(text)
        assert "20,000" in give(browser, text)
        assert give(browser, good).startswith("scene.png")
    assert "does not answer" in give(browser, text)


class Fast(Boxes):
    """Looks at proposals of others."""

    def _read_metadata(self):
        return super()._read_metadata()[:-1] + ', "proposals": {"most": 9}}'


def test_a_model_that_looks_at_proposals(browser, tmp_path):
    """The page has none: the server makes them, or the page says at once what is missing."""
    path = tmp_path / "scene.png"
    Image.new("RGB", (120, 90)).save(path)
    with served(Fast(), propose=lambda image: np.array([[1, 2, 30, 40]])) as client:
        browser.get(client.address)
        assert "proposals by a function" in browser.find_element("id", "about").text
        give(browser, path)
        assert rows(browser) == ["dark 90%", "bright 80%"]
    complaints(browser)  # of other tests
    with served(Fast()) as client:
        browser.get(client.address)
        assert "with --proposals METHOD" in browser.find_element("id", "status").text
        end = time.monotonic() + 90
        browser.find_element("id", "file").send_keys(str(path))
        while "has no 'proposals'" not in browser.find_element("id", "status").text and time.monotonic() < end:
            time.sleep(0.02)
        assert "has no 'proposals'" in browser.find_element("id", "status").text
        (refused,) = complaints(browser)
        assert "status of 400" in refused["message"]


def test_a_classifier(browser, tmp_path):
    path = tmp_path / "scene.png"
    Image.new("RGB", (120, 90)).save(path)
    with served(Classes()) as client:
        browser.get(client.address)
        give(browser, path)
        assert rows(browser) == ["bright 75%", "dark 25%"]
        assert not browser.find_element("id", "slider").is_displayed()
