# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl report`` on tables and pictures that someone else wrote, or that a machine broke."""

import contextlib
import csv
import io
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from unittest import mock
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from anomalib_ssl.commands.report import report
from anomalib_ssl.comparison.row import COLUMNS, METRICS, Row
from anomalib_ssl.comparison.store import Outcome, Store
from anomalib_ssl.report import plots
from anomalib_ssl.report.contenders import contenders
from anomalib_ssl.report.gallery import galleries
from anomalib_ssl.report.reading import read_results

NASTY = (
    "../../../victim/logo.x",
    "/etc/passwd",
    "board_v1.2",
    "$x_1$ costs $5",
    "$\\frac{",
    "a <b>&amp;\"c\" 'd'</b><script>",
    "a|b `c` [d](http://e) ![f](g) ~~h~~",
    "# heading #",
    "=1+2",
    "@SUM(A1)",
    "-2",
    "1. one",
    "\N{GRINNING FACE} \N{RIGHT-TO-LEFT OVERRIDE}x",
    "\x01\x07\x1b[31m",
    "\u2028new\x85line",
    "x" * 3000,
    ".",
    " ",
    "mean",
)
"""Names that mean something to a file system, to Matplotlib, HTML, Markdown or a table calculator."""


def tree(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def good(**values):
    values = {"dataset": "MVTecAD", "category": "tile", "image_AUROC": 0.9, "images_per_second_n": 5.0} | values
    return Row(**{"job": repr(values), "status": "ok", "model": "SSM", "seed": 0} | values)


def write(path, rows, columns=COLUMNS):
    """Write a table as it is, whatever the cells hold."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows([columns, *rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue().encode(errors="surrogatepass"))
    return path


def with_cell(column, text):
    return [
        "" if name is None else text if name == column else value
        for name, value in zip(COLUMNS, good(job="bad").cells(), strict=True)
    ]


def summary(output):
    with (output / "summary.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table_names(output):
    """The cells of the first column of all tables of report.md, as they are shown."""
    shown = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .render((output / "report.md").read_text(encoding="utf-8"))
    )
    parser = Text()
    parser.feed(shown)
    return parser


class Text(HTMLParser):
    """Collects tags, and the texts of cells and headings."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts, self.attributes = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.texts.append("")

    def handle_data(self, data):
        if self.texts:
            self.texts[-1] += data


def test_nothing_is_written_elsewhere(tmp_path):
    victim = tmp_path / "victim/logo.svg"
    victim.parent.mkdir()
    victim.write_text("mine", encoding="utf-8")
    names = ["../../../victim/logo.x", str(victim.parent / "logo.y"), "../victim/logo"]
    table = write(tmp_path / "in/results.csv", [good(dataset=name, category=name).cells() for name in names])
    before = tree(tmp_path)
    report([table], tmp_path / "a/b/out")
    output = tree(tmp_path / "a/b/out")
    assert {path: content for path, content in tree(tmp_path).items() if path not in output} == before | {
        tmp_path / part: None for part in ("a", "a/b", "a/b/out")
    }
    assert len([path for path in output if path.suffix == ".svg"]) == 3, "one of each data set"


def test_pictures_are_those_of_the_folder_alone(tmp_path, pictures):
    store = Store(tmp_path / "in")
    row = good(job="../../out/job", model="CutPaste", category="bottle")
    files = pictures("job", "CutPaste", "bottle")
    store.save(Outcome(row))
    for folder in (tmp_path / "out", store.folder / "pictures"):
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    assert "<img" not in report([store.folder], tmp_path / "report").read_text(encoding="utf-8")


def test_data_sets_with_a_dot_in_their_names_keep_all_plots(tmp_path):
    rows = [good(dataset=name, label=label, pixel_AUROC=0.8) for name in ("board_v1.2", "board_v1.3") for label in "ab"]
    report([write(tmp_path / "results.csv", [row.cells() for row in rows])], tmp_path / "out")
    kinds = ("image_AUROC", "pixel_AUROC", "image_AUROC_speed", "pixel_AUROC_speed")
    names = {f"{name}_{kind}" for name in ("board_v1.2", "board_v1.3") for kind in kinds}
    for suffix in (".svg", ".png"):
        assert {path.name.removesuffix(suffix) for path in (tmp_path / "out/plots").glob(f"*{suffix}")} == names


BAD = [
    ("image_AUROC", "nan"),
    ("image_AUROC", "inf"),
    ("image_AUROC", "1.5"),
    ("image_AUROC", "ninety"),
    ("fit_duration", "1e400"),
    ("images_per_second_n", "1e300"),
    ("parameters", "9" * 400),
    ("job_duration", "-1"),
    ("seed", "one"),
    ("status", "maybe"),
    ("pretrained", "1"),
    ("model_args", "{"),
    ("model_args", "[1, 2]"),
    ("model_args", '{"a": ' + "[" * 500 + "]" * 500 + "}"),
    ("data_args", '{"a": ' * 100 + "1" + "}" * 100),
    ("trainer_args", "[" * 100_000),
]


@pytest.mark.parametrize(("column", "text"), BAD, ids=lambda value: value[:20])
def test_a_bad_cell_costs_its_line_alone(column, text, tmp_path, caplog):
    table = write(tmp_path / "results.csv", [good(seed=1).cells(), with_cell(column, text), good(seed=2).cells()])
    assert [result.row.seed for result in read_results([table])] == [1, 2]
    (warning,) = caplog.messages
    assert f"{table}, line 3 is left out: {column}" in warning
    assert repr(text[:80]) in warning


@pytest.mark.parametrize(
    "line", [b"short,ok", b"\xe9" + b"," * (len(COLUMNS) - 1), b'"', b"a," + b"x" * 200_000, b"," * 80], ids=range(5)
)
def test_a_broken_line_costs_itself_alone(line, tmp_path, caplog):
    table = write(tmp_path / "results.csv", [good(seed=1).cells(), good(seed=2).cells()])
    first, *others = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"\xef\xbb\xbf" + first + line + b"\n" + b"".join(others))
    assert [result.row.seed for result in read_results([table])] == [1, 2]
    (warning,) = caplog.messages
    assert f"{table}, line 2 is left out" in warning


def test_the_stock_table_is_checked_as_well(tmp_path, caplog):
    columns = ("seed", "model.class_path", "model.init_args.x", "data.class_path", "data.init_args.category")
    lines = [
        ["0", "a.Padim", "1", "MVTecAD", "tile", "0.5", "1.0"],
        ["1", "a.Padim", "1", "MVTecAD", "tile", "1.5", "1.0"],
        ["2", "a.Padim", "1", "MVTecAD", "tile", "0.5", "-1.0"],
        ["x", "a.Padim", "1", "MVTecAD", "tile", "0.5", "1.0"],
        ["3", "", "", "", "", "", ""],
        ["4", "a.Padim", "1", "MVTecAD", "tile", "0.5", "1.0"],
    ]
    table = write(tmp_path / "results.csv", lines, (*columns, "image_AUROC", "fit_duration"))
    assert [result.row.seed for result in read_results([table, table])] == [0, 4]
    for number, message in zip((3, 4, 5, 6), caplog.messages, strict=True):
        assert f"{table}, line {number} is left out" in message


def test_a_report_of_nothing_is_an_error(tmp_path):
    table = write(tmp_path / "results.csv", [with_cell("seed", "x")])
    with pytest.raises(ValueError, match="no line of"):
        report([table], tmp_path / "out")


def test_a_report_without_any_score_lists_the_models(tmp_path):
    rows = [good(image_AUROC=None, label=label).cells() for label in ("<a>", "b")]
    text = report([write(tmp_path / "results.csv", rows)], tmp_path / "out").read_text(encoding="utf-8")
    assert "&lt;a&gt;" in text
    assert "| \\<a\\> |" in (tmp_path / "out/report.md").read_text(encoding="utf-8")
    assert summary(tmp_path / "out") == []


def test_a_report_of_failures_alone_lists_them(tmp_path):
    row = good(status="failed", image_AUROC=None, error="it <broke>")
    path = report([write(tmp_path / "results.csv", [row.cells()])], tmp_path / "out")
    assert "it &lt;broke&gt;" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("option", ["output", "page"])
def test_what_cannot_be_written_is_said_first(option, tmp_path):
    (tmp_path / "taken").write_text("", encoding="utf-8")
    place = tmp_path / "taken" / ("a.md" if option == "page" else "a")
    with pytest.raises(ValueError, match=f"{option} must be"):
        report([tmp_path / "none.csv"], **{"output": tmp_path / "out", option: place})


def test_odd_values_do_no_harm(tmp_path):
    odd = [
        {"seed": 10**30},
        {"seed": -(10**30)},
        {"started": "years of text " * 100},
        {"started": "2026-13-99T99:99:99"},
        {"category": None},
        {"budget": "\N{SUPERSCRIPT TWO} updates 99999999999999999999"},
        {"resolution": "x" * 100},
        {"model_args": '{"a": NaN, "b": "\\ud800\\u0000", "c": {}, "variant": [["3way"]]}'},
        {"data_args": '{"num_workers": {"a": []}}'},
        {"images_per_second_n": 0.0},
        {"images_per_second_n": 1e-320},
        {"images_per_second_n": 9e14},
        {"job_duration": 9e14, "fit_duration": 9e14, "peak_memory": 9e14, "parameters": 9 * 10**14},
        {"image_AUROC": None},
        {"image_AUROC": 0.0},
    ]
    rows = [good(label=f"{place}", **values) for place, values in enumerate(odd)]
    rows += [good(category=None, seed=seed) for seed in range(100)]
    path = report([write(tmp_path / "results.csv", [row.cells() for row in rows])], tmp_path / "out")
    assert "115 done" in path.read_text(encoding="utf-8")
    models = {line["model"] for line in summary(tmp_path / "out")}
    assert models == {"SSM", *(f"{place}" for place, values in enumerate(odd) if "image_AUROC" not in values), "14"}
    for plot in (tmp_path / "out/plots").glob("*.svg"):
        ElementTree.parse(plot)


def test_odd_minutes_do_no_harm(tmp_path):
    odd = [
        ("9" * 400 + " minutes", 9e14),
        ("0 minutes", 0.0),
        ("1 minute", 1e-320),
        ("2 minutes", None),
        ("3 minutes", 1.0),
    ]
    rows = [
        good(label="a", budget=budget, training_duration=seconds, weights="../x|<b>", category=category)
        for budget, seconds in odd
        for category in ("tile", "wood", "grid")
    ]
    path = report([write(tmp_path / "results.csv", [row.cells() for row in rows])], tmp_path / "out")
    assert "15 done" in path.read_text(encoding="utf-8")
    assert {line["model"] for line in summary(tmp_path / "out")} == {
        f"a (for {budget})" if float(budget.split()[0]) else "a" for budget, _ in odd
    }
    ElementTree.parse(tmp_path / "out/plots/MVTecAD_image_AUROC_minutes.svg")


def damaged(arrays, **changes):
    buffer = io.BytesIO()
    changed = {name: array for name, array in (arrays | changes).items() if array is not None}
    np.savez(buffer, **changed)
    return buffer.getvalue()


DAMAGES = {
    "truncated": lambda content, arrays: content[: len(content) // 2],
    "empty": lambda content, arrays: b"",
    "foreign": lambda content, arrays: b"\x89PNG\r\n\x1a\n" * 100,
    "pickled": lambda content, arrays: damaged(arrays, names=np.array([{"a": 1}] * 4, object)),
    "names": lambda content, arrays: damaged(arrays, names=np.array(["a", "b", "c", "d"])),
    "short": lambda content, arrays: damaged(arrays, names=arrays["names"][:2]),
    "missing": lambda content, arrays: damaged(arrays, **{"maps" if "maps" in arrays else "images": None}),
    "none": lambda content, arrays: damaged({name: array[:0] for name, array in arrays.items()}),
    "flat": lambda content, arrays: damaged({name: array.ravel() for name, array in arrays.items()}),
    "nan": lambda content, arrays: damaged(
        {name: array * np.nan if array.dtype.kind in "uf" else array for name, array in arrays.items()}
    ),
    "text": lambda content, arrays: damaged({name: array.astype(str) for name, array in arrays.items()}),
}


@pytest.mark.parametrize(
    ("damage", "ending"),
    # Where the images have other names than all maps, it is the maps that are left out.
    [(damage, "job.npz") for damage in DAMAGES] + [(damage, ".images.npz") for damage in DAMAGES if damage != "names"],
)
def test_damaged_pictures_are_left_out(damage, ending, tmp_path, pictures, caplog):
    files = pictures("job", "CutPaste", "bottle") | {
        name: content for name, content in pictures("other", "SSM", "bottle").items() if name == "other.npz"
    }
    store = Store(tmp_path / "in")
    store.save(Outcome(good(job="job", category="bottle"), {}, files))
    store.save(Outcome(good(job="other", category="bottle", label="other")))
    (path,) = (store.folder / "pictures").glob(f"*{ending}")
    arrays = dict(np.load(path))
    path.write_bytes(DAMAGES[damage](path.read_bytes(), arrays))
    shown = galleries(contenders(read_results([store.folder]))["MVTecAD"], ["bottle"])
    assert [[contender.title for contender in gallery.contenders] for gallery in shown] == (
        [["other"]] if ending == "job.npz" else []
    )
    assert str(path) in caplog.text


def test_images_of_one_name_keep_their_maps(tmp_path, pictures):
    """Names are those of a folder and a file, which may be there twice."""
    files = pictures("job", "CutPaste", "bottle")
    for name, content in files.items():
        arrays = dict(np.load(io.BytesIO(content)))
        order = slice(None) if name.endswith(".images.npz") else [1, 3, 2, 0]  # that of the images
        arrays = {key: array[order] for key, array in arrays.items()}
        arrays["names"] = np.array(["scratch/000.png", "scratch/000.png", "hole/000.png", "good/000.png"])
        files[name] = damaged(arrays)
    store = Store(tmp_path / "in")
    store.save(Outcome(good(job="job", category="bottle"), {}, files))
    (gallery,) = galleries(contenders(read_results([store.folder]))["MVTecAD"], ["bottle"])
    assert {0.9, 0.2} <= {case.scores[0] for case in gallery.cases}


def test_pictures_of_two_machines_are_put_in_one_order(tmp_path, pictures):
    """The second machine has its images in another order: each map stays with its image."""
    for name, order in (("one", [0, 1, 2, 3]), ("two", [2, 0, 3, 1])):
        files = pictures("job", "CutPaste", "bottle")
        shared = dict(np.load(io.BytesIO(files["MVTecAD-bottle.images.npz"])))
        files["MVTecAD-bottle.images.npz"] = damaged({key: array[order] for key, array in shared.items()})
        Store(tmp_path / name).save(Outcome(good(job="job", category="bottle", device=name), {}, files))
    shown = report([tmp_path / "one", tmp_path / "two"], tmp_path / "out").read_text(encoding="utf-8")
    images = re.findall(r'<img src="([^"]*)" alt="map of', shown)
    assert len(images) == 3 * 2
    assert images[::2] == images[1::2]


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """A report in which every text is one of the names above."""
    folder = tmp_path_factory.mktemp("nasty")
    rows = [
        good(
            job=f"{place}", label=name, category=name, dataset="=data|<set>$", device=name, budget=name, precision=name
        )
        for place, name in enumerate(NASTY)
    ]
    rows += [replace(row, job=f"{row.job} failed", status="failed", error=row.label) for row in rows]
    table = write(folder / "results.csv", [row.cells() for row in rows])
    report([table], folder / "out", title="A $title$ <b>\n# \ud800\x00", notes=["- a <note>", "$x$ \udfff"])
    return folder / "out"


def shown_as(text):
    """A text without what no page can show."""
    return " ".join(re.sub("[\x00-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text).split())


def test_markdown_shows_names_as_they_are(nasty):
    rendered = table_names(nasty)
    texts = {" ".join(text.split()) for text in rendered.texts}
    assert {shown_as(name) for name in NASTY} - {""} <= texts
    assert set(rendered.tags) <= {
        "h1",
        "h2",
        "h3",
        "p",
        "ul",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "strong",
        "img",
    }
    assert rendered.tags.count("h1") == 1
    assert "A $title$ <b> # \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}" in texts
    assert {"- a <note>", "$x$ \N{REPLACEMENT CHARACTER}"} <= texts
    links = [value for name, value in rendered.attributes if name == "src"]
    assert links
    assert all((nasty / link).is_file() for link in links)


def test_no_cell_of_the_summary_is_a_formula(nasty):
    cells = [text for line in summary(nasty) for text in line.values()]
    assert not [text for text in cells if text.startswith(("=", "+", "@", "\t", "\r"))]
    assert not [text for text in cells if text.startswith("-") and not re.fullmatch(r"-[\d.]+", text)]
    assert {"'=1+2", "'@SUM(A1)", "'=data|<set>$", "'-2"} <= set(cells)


def test_plots_show_names_as_they_are(nasty):
    (path,) = nasty.glob("plots/*_image_AUROC.svg")
    texts = {
        "".join(element.itertext()) for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    }
    assert {shown_as(name) for name in NASTY if len(name) < 50} - {""} <= {" ".join(text.split()) for text in texts}
    svgs = re.findall(r"<svg .*?</svg>", (nasty / "report.html").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert svgs
    for svg in svgs:
        ElementTree.fromstring(svg.replace("xlink:", ""))


def test_html_shows_names_as_they_are(nasty):
    text = (nasty / "report.html").read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", text)
    assert "<script" not in text
    parser = Text()
    parser.feed(text)
    assert {shown_as(name) for name in NASTY} - {""} <= {" ".join(text.split()) for text in parser.texts}


def test_colours_in_names_stay_as_they_are(tmp_path):
    rows = [good(label='#0072b2 id="x_1" font: 9px a').cells(), good(label="b").cells()]
    text = report([write(tmp_path / "results.csv", rows)], tmp_path / "out").read_text(encoding="utf-8")
    scatter = re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL)[0]
    assert '>#0072b2 id="x_1" font: 9px a</text>' in scatter


texts = st.sampled_from(NASTY) | st.text(max_size=12)
numbers = st.sampled_from(["", "0.5", "1", "0", "nan", "inf", "-1", "1e308", "1e-320", "9" * 30, "x"])
arguments = st.sampled_from(["", "{}", '{"a": NaN}', '{"\\ud800": "$"}', "[1]", "{", '{"a": [[{}]]}'])


@st.composite
def lines(draw):
    """A line of a table: most are results, some are cut, longer, or no text at all."""
    kind = draw(st.sampled_from(["good"] * 6 + ["short", "long", "binary"]))
    if kind == "binary":
        return draw(st.binary(max_size=40))
    cells = dict.fromkeys(COLUMNS, "") | asdict(good(job=draw(texts) or "j"))
    cells |= {
        name: draw(texts) or "x" for name in ("dataset", "model", "category", "label", "device") if draw(st.booleans())
    }
    cells |= {
        name: draw(numbers)
        for name in draw(st.lists(st.sampled_from([*METRICS, "images_per_second_n", "parameters", "seed"]), max_size=2))
    }
    cells |= {
        name: draw(arguments) for name in draw(st.lists(st.sampled_from(["model_args", "data_args"]), max_size=1))
    }
    cells |= {name: draw(texts) for name in draw(st.lists(st.sampled_from(COLUMNS), max_size=1))}
    listed = ["" if value is None else str(value) for value in cells.values()]
    listed = {"good": listed, "short": listed[:-3], "long": [*listed, "more"]}[kind]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="").writerow(listed)
    return buffer.getvalue().encode(errors="surrogatepass")


headers = st.sampled_from([COLUMNS] * 20 + [(*COLUMNS, "job"), (*COLUMNS[:-1], "job"), COLUMNS[3:], ("a", "")])
tables = st.builds(
    lambda start, header, body: start + b"\n".join([",".join(header).encode(), *body]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    headers,
    st.lists(lines(), min_size=1, max_size=6),
)


def throw(contents, folder, caplog):
    """Report tables; nothing but the documented errors, no file outside, and every warning names its file."""
    for place, content in enumerate(contents):
        for name in ("results.csv", "pictures/j.npz", "pictures/MVTecAD-tile.images.npz"):
            path = folder / f"in/{place}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    before = tree(folder)
    caplog.clear()
    with contextlib.suppress(ValueError, FileNotFoundError):
        report([folder / f"in/{place}" for place in range(len(contents))], folder / "out")
        for name in ("report.html", "report.md", "summary.csv"):
            (folder / "out" / name).read_text(encoding="utf-8")
    assert all(f"{folder / 'in'}/" in message for message in caplog.messages)
    after = tree(folder)
    assert {path: after[path] for path in after if folder / "out" not in (path, *path.parents)} == before


def touch(figure, folder, name):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.svg").touch()
    return folder / f"{name}.svg"


HASTY = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@settings(HASTY, max_examples=50)
@given(contents=st.lists(tables, min_size=1, max_size=2))
def test_no_table_breaks_a_report(tmp_path_factory, caplog, contents):
    drawing = dict.fromkeys(("category_dots",), mock.DEFAULT)
    with mock.patch.multiple(plots, **drawing, save=touch, inline=mock.Mock(return_value="<svg></svg>")):
        throw(contents, tmp_path_factory.mktemp("thrown"), caplog)


@settings(HASTY, max_examples=4)
@given(contents=st.lists(tables, min_size=1, max_size=2))
def test_no_table_breaks_a_plot(tmp_path_factory, caplog, contents):
    throw(contents, tmp_path_factory.mktemp("thrown"), caplog)
