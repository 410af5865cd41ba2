"""CSV of boxes: with and without a first line, quotes, empty pictures, class lists, and messages with the line."""

import numpy as np
import pytest
from small_data import picture

from zoo.datasets import load
from zoo.datasets.class_lists import read_class_list
from zoo.datasets.csv_boxes import csv_splits, load_csv
from zoo.datasets.images import ImageError
from zoo.datasets.notes import AnnotationError


@pytest.fixture
def table(tmp_path):
    """Writes boxes.csv; the pictures a.jpg, b.jpg and images/c.jpg are there."""
    for name in ("a.jpg", "b.jpg", "images/c.jpg"):
        picture(tmp_path / name)

    def write(text, name="boxes.csv"):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    write.root = tmp_path
    return write


def test_objects_of_a_picture_and_pictures_without(table):
    file = table("b.jpg,1,2,30.5,20,dog\na.jpg,,,,,\n\nb.jpg,3,4,5,6,cat\nc.jpg,0,0,40,30,dog\n")
    data = load(file)
    assert data.classes == ("cat", "dog")
    assert [sample.image_id for sample in data.samples] == ["b", "a", "c"]
    np.testing.assert_array_equal(data.sample(0).boxes, [[1, 2, 30.5, 20], [3, 4, 5, 6]])
    assert data.sample(0).classes.tolist() == [1, 0]
    assert len(data.sample(1)) == 0
    assert data.sample(0).size == (30, 40)  # from the header
    assert data.sample(2).path == table.root / "images" / "c.jpg"
    assert data.notes == ()


@pytest.mark.parametrize(
    "text",
    [
        "path,x1,y1,x2,y2,class\na.jpg,1,2,3,4,dog\n",
        "\ufefffilename,width,height,class,xmin,ymin,xmax,ymax\r\na.jpg,40,30,dog,1,2,3,4\r\n",
        "label,XMIN,YMIN,XMAX,YMAX,image\ndog,1,2,3,4,a.jpg",
        '"a.jpg","1","2","3","4","dog"\n',
        "a.jpg, 1, 2, 3, 4, dog\n",
        "a.jpg,1,2,3,4,dog,,\n",
    ],
)
def test_ways_to_write_the_same(table, text):
    data = load_csv(table(text))
    assert data.classes == ("dog",)
    np.testing.assert_array_equal(data.sample(0).boxes, [[1, 2, 3, 4]])


def test_quotes_around_commas_and_quotes(table):
    picture(table.root / 'a,"b".jpg')
    data = load_csv(table('"a,""b"".jpg",1,2,3,4,"cat, big"\n'))
    assert data.classes == ("cat, big",)
    assert data.sample(0).path.name == 'a,"b".jpg'


def test_flags_and_sizes_by_name(table):
    text = "path,x1,y1,x2,y2,class,difficult,crowd,width,height\na.jpg,1,2,3,4,dog,1,0,40,30\na.jpg,1,2,3,9,dog,0,1,,\n"
    sample = load_csv(table(text)).sample(0)
    assert sample.difficult.tolist() == [True, False]
    assert sample.crowd.tolist() == [False, True]
    assert sample.size == (30, 40)


def test_classes_from_a_file_beside_or_given(table):
    file = table("a.jpg,1,2,3,4,dog\n")
    table("dog,1\ncat,0\n", "classes.csv")
    assert load(file).classes == ("cat", "dog")
    assert load(file, classes=("dog",)).sample(0).classes.tolist() == [0]
    names = table("dog\nbird\n", "names.txt")
    assert load(file, classes=names).classes == ("dog", "bird")
    assert load(file, classes=str(names)).classes == ("dog", "bird")
    with pytest.raises(AnnotationError, match=r"boxes\.csv, line 1: has the unknown class 'dog'; known: cat"):
        load(file, classes=["cat"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no class names"),
        ("dog,x\n", r"line 1: 'dog,x' is not name,index"),
        ("dog,0\ncat,0\n", r"line 2: the index 0 is given twice"),
        ("dog,0\ncat,2\n", "0 to 1 without gaps"),
        ("dog\ndog\n", "twice"),
        ("dog,0\ncat\n", r"line 2: 'cat' is not"),
    ],
)
def test_class_files_that_are_none(table, text, words):
    with pytest.raises(AnnotationError, match=words):
        read_class_list(table(text, "c.csv"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.jpg,1,2,3,4\n", r"line 1: has 5 fields, 6 are wanted"),
        ("a.jpg;1;2;3;4;dog\n", r"line 1: has 1 fields.*separate them by commas"),
        ("a.jpg,1,2,3,4,dog,cat\n", r"line 1: has 7 fields"),
        ("a.jpg,1,2,3,4,dog\na.jpg,1,x,3,4,dog\n", r"line 2: x1, y1, x2, y2 are 1, x, 3, 4: four numbers are wanted"),
        ("a.jpg,1,2,3,nan,dog\n", r"line 1: x1"),
        ("a.jpg,1,,3,4,dog\n", r"line 1: x1"),
        ("a.jpg,1,2,3,4,dog\nx.jpg,1,2,3,4,dog\n", r"line 2: its picture x\.jpg is missing; looked in "),
        ("../a.jpg,1,2,3,4,dog\n", r"line 1: the path '\.\./a\.jpg' leads out of"),
        ("/etc/passwd,1,2,3,4,dog\n", r"line 1: the path '/etc/passwd' leads out"),
        (",1,2,3,4,dog\n", r"line 1: there is no path"),
        ("path,x1,y1,x2,y2,kind\na.jpg,1,2,3,4,dog\n", r"line 1: names columns, but none for class"),
        ('a.jpg,1,2,3,4,"dog\n', r"line 1: not CSV"),
        ("", "is empty"),
        (b"\x89PNG\0\0", "NUL bytes"),
    ],
)
def test_mistakes_are_named_with_their_line(table, text, words):
    file = table(text)
    with pytest.raises(AnnotationError, match=words) as caught:
        load_csv(file)
    assert str(file) in str(caught.value)


def test_an_absolute_path_inside_is_fine(table):
    assert load_csv(table(f"{table.root}/a.jpg,1,2,3,4,dog\n")).sample(0).path == table.root / "a.jpg"


def test_broken_boxes_are_noted_with_their_line(table):
    rows = ["a.jpg,5,5,5,9,cat", "a.jpg,9,9,5,20,cat", "a.jpg,41,5,60,9,cat", "a.jpg,-1,0,60,20,cat"]
    data = load_csv(table("\n".join(rows)))
    assert data.sample(0).boxes.tolist() == [[0, 0, 40, 20]]
    assert [note.kind for note in data.notes] == ["zero-area", "swapped", "outside", "clipped"]
    for line, note in enumerate(data.notes, 1):
        assert note.startswith(f"boxes.csv, line {line}: the box of a.jpg (cat, ")


def test_latin_1_is_read_and_noted(table):
    data = load_csv(table("a.jpg,1,2,3,4,gr\xfcn\n".encode("latin-1")))
    assert data.classes == ("gr\xfcn",)
    assert data.notes == ("boxes.csv, line 1: is not UTF-8; read as Latin-1",)


def test_unreadable_pictures(table):
    (table.root / "bad.jpg").write_text("words")
    file = table("a.jpg,1,2,3,4,dog\nbad.jpg,1,2,3,4,dog\n")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        load_csv(file)
    data = load_csv(file, on_error="note")
    assert len(data) == 1
    assert [note.kind for note in data.notes] == ["unreadable-picture"]


def test_a_folder_of_files_is_a_set_with_splits(table):
    table("a.jpg,1,2,3,4,dog\n", "train.csv")
    table("b.jpg,1,2,3,4,cat\n", "val.csv")
    assert csv_splits(table.root) == ("train", "val")
    assert load(table.root, "train").classes == load(table.root, "val").classes == ("cat", "dog")
    assert load(table.root, "val").sample(0).image_id == "b"
    with pytest.raises(AnnotationError, match="choose a split; splits: train, val"):
        load(table.root)
    with pytest.raises(AnnotationError, match="no split 'test'"):
        load(table.root, "test")


def test_names_of_pictures_stay_apart(table):
    picture(table.root / "x" / "a.jpg")
    data = load_csv(table("a.jpg,,,,,\nx/a.jpg,,,,,\nb.jpg,,,,,\n"))
    assert [sample.image_id for sample in data.samples] == ["a", "x/a", "b"]
