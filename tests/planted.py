"""Plants faults in a VOC folder: each in a picture of its own, so that a check can be told exactly what to find."""

import io
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance


class Planter:
    """Faults in a VOC folder with the splits train, val and test.

    ``expected`` gathers, by kind, the names of the pictures that a finding of this kind has to mention.
    """

    def __init__(self, root: Path):
        self.root = root
        self.expected: dict[str, list[str]] = {}
        self._free = [name for name in self.listed("train") if self.objects(name)]

    def listed(self, split):
        return (self.root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()

    def take(self, kind):
        """A picture of the training split that is as it was; noted under ``kind``."""
        name = self._free.pop(0)
        self.expected.setdefault(kind, []).append(name)
        return name

    def xml(self, name):
        return self.root / "Annotations" / f"{name}.xml"

    def jpg(self, name):
        return self.root / "JPEGImages" / f"{name}.jpg"

    def objects(self, name):
        return ElementTree.parse(self.xml(name)).getroot().findall("object")

    def edit(self, name, change):
        """Apply ``change(root, first object)`` to the XML."""
        tree = ElementTree.parse(self.xml(name))
        change(tree.getroot(), tree.getroot().find("object"))
        tree.write(self.xml(name))

    def add_box(self, name, corners, label=None):
        """One more object, of the first one's class if none is given."""

        def change(root, first):
            item = ElementTree.fromstring(ElementTree.tostring(first))
            if label is not None:
                item.find("name").text = label
            for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
                item.find(f"bndbox/{side}").text = str(value)
            root.append(item)

        self.edit(name, change)

    def corners(self, name):
        box = self.objects(name)[0].find("bndbox")
        return [int(float(box.findtext(side))) for side in ("xmin", "ymin", "xmax", "ymax")]

    def copy(self, name, new, split, change=None):
        """The picture under another name in another split, itself or changed, with its annotation."""
        shutil.copy(self.xml(name), self.xml(new))
        self.edit(new, lambda root, first: setattr(root.find("filename"), "text", f"{new}.jpg"))
        if change is None:
            shutil.copy(self.jpg(name), self.jpg(new))
        else:
            change(Image.open(self.jpg(name))).save(self.jpg(new), quality=70)
        with open(self.root / "ImageSets" / "Main" / f"{split}.txt", "a") as file:
            file.write(f"\n{new}\n")

    def plant_all(self, classes):
        """One fault of each kind; two of those that come in two forms."""
        self._plant_files()
        self._plant_boxes(classes)
        self._plant_pictures()
        self._plant_splits()
        return self.expected

    def _plant_files(self):
        name = self.take("unreadable-annotation")
        self.xml(name).write_bytes(self.xml(name).read_bytes()[:-40])
        name = self.take("unreadable-annotation")
        self.xml(name).write_text("<!DOCTYPE x [<!ENTITY a 'b'>]>" + self.xml(name).read_text())
        name = self.take("leads-out")
        self.edit(name, lambda root, first: setattr(root.find("filename"), "text", "../../x.jpg"))
        self.jpg(self.take("missing-picture")).unlink()
        name = self.take("unreadable-picture")
        self.jpg(name).write_bytes(self.jpg(name).read_bytes()[: self.jpg(name).stat().st_size // 2])
        self.jpg(self.take("unreadable-picture")).write_text("words")
        name = self.take("mislabelled")
        Image.open(self.jpg(name)).save(self.jpg(name), format="PNG")

    def _plant_boxes(self, classes):
        self.add_box(self.take("zero-area"), (30, 20, 30, 60))
        self.add_box(self.take("swapped"), (90, 20, 30, 60))
        name = self.take("outside")
        width = Image.open(self.jpg(name)).width
        self.add_box(name, (width + 5, 20, width + 60, 60))
        name = self.take("clipped")
        width = Image.open(self.jpg(name)).width
        self.add_box(name, (width - 30, 20, width + 25, 60))
        name = self.take("duplicate-box")
        self.add_box(name, self.corners(name))
        name = self.take("two-classes")
        other = next(label for label in classes if label != self.objects(name)[0].findtext("name"))
        self.add_box(name, self.corners(name), other)
        self.add_box(self.take("unreadable-box"), (30, "x", 50, 60))
        name = self.take("tiny-box")
        self.add_box(name, (3, 3, 5, 9))
        name = self.take("similar-classes")
        label = self.objects(name)[0].findtext("name")
        self.edit(name, lambda root, first: setattr(first.find("name"), "text", f"{label.lower()}s "))
        name = self.take("no-boxes")
        self.edit(name, lambda root, first: [root.remove(each) for each in root.findall("object")])

    def _plant_pictures(self):
        name = self.take("wrong-size")
        picture = Image.open(self.jpg(name))
        picture.resize((picture.width // 2, picture.height // 2)).save(self.jpg(name))
        name = self.take("turned")
        exif = Image.Exif()
        exif[0x0112] = 6
        picture = Image.open(self.jpg(name))
        picture.load()
        picture.save(self.jpg(name), exif=exif)
        stream = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3)).astype(np.uint8)).save(stream, "JPEG")
        self.jpg("stray").write_bytes(stream.getvalue())
        self.expected["no-annotation"] = ["stray"]

    def _plant_splits(self):
        main = self.root / "ImageSets" / "Main"
        self.copy(self._free.pop(0), "copied", "test")
        self.expected["leak"] = ["copied"]
        listed = self.listed("val")[0]
        with open(main / "train.txt", "a") as file:
            file.write(f"{listed}\n")
        self.expected["leak"].append(listed)
        self.copy(self._free.pop(0), "nearly", "val", lambda p: ImageEnhance.Brightness(p).enhance(1.15))
        self.copy(self._free.pop(0), "mirrored", "test", lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        self.expected["near-leak"] = ["nearly", "mirrored"]
        self.copy(self._free.pop(0), "again", "train")
        self.expected["twin"] = ["again"]
        twice = self._free.pop(0)
        with open(main / "train.txt", "a") as file:
            file.write(f"{twice}\nnowhere\n")
        self.expected["listed-twice"] = [twice]
        self.expected["missing-annotation"] = ["nowhere"]
