# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl report``: the files it writes."""

import base64
import csv
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomalib_ssl import cli
from anomalib_ssl.report.contenders import contenders
from anomalib_ssl.report.gallery import galleries, rarity, separation
from anomalib_ssl.report.reading import read_results


class Tags(HTMLParser):
    """Collects tags with their attributes, and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory, folder):
    output = tmp_path_factory.mktemp("report")
    page = output / "docs/page.md"
    arguments = [
        str(folder / "results.csv"),
        "--output",
        str(output / "out"),
        "--title",
        "A <title>",
        "--page",
        str(page),
        "--notes+=Weights: of a <friend>, not timm's.",
        "--notes+=Another, too.",
    ]
    assert cli.main(["report", *arguments]) == 0
    return output


@pytest.fixture(scope="module")
def html(written):
    return (written / "out/report.html").read_text(encoding="utf-8")


def test_the_page_needs_nothing_else(html):
    parsed = Tags(html)
    for tag, attributes in parsed.tags:
        assert tag not in {"script", "link", "iframe", "object"}
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/jpeg;base64,")), (tag, attributes)
    assert not re.search(r"url\((?!#)", html)
    assert "@import" not in html
    names = [attributes["href"][1:] for tag, attributes in parsed.tags if tag == "a"]
    assert set(names) <= {attributes.get("id") for _, attributes in parsed.tags}


def test_text_of_results_is_escaped(html):
    assert "A &lt;title&gt;" in html
    assert "<b>no</b> memory" not in html
    assert "&lt;b&gt;no&lt;/b&gt; memory" in html
    assert "<GPU" not in html


def test_notes_are_on_every_page(written, html):
    assert "Weights: of a &lt;friend&gt;, not timm" in html
    assert "Another, too." in html
    for path in ("out/report.md", "docs/page.md"):
        text = (written / path).read_text(encoding="utf-8")
        assert "\n\nWeights: of a \\<friend\\>, not timm's.\n\nAnother, too.\n\n" in text


def test_the_page_shows_scores_groups_gaps_and_failures(html):
    text = " ".join(" ".join(Tags(html).text).split())
    assert "90.4 ±0.1" in text, "CutPaste's mean and deviation over three seeds"
    assert "Pretrained weights" in text
    assert "Transductive (saw unlabelled test images), random weights at the start" in text
    assert "STSSAD (2 of 3 categories)" in text
    assert "98.3 \N{MINUS SIGN}7.9" in text, "published, and the gap on bottle"
    assert "RuntimeError: <b>no</b> memory" in text
    assert "Li et al., CVPR 2021" in text
    assert "10,000 updates" in text


def test_plots_follow_the_colours_of_the_page(html):
    svgs = re.findall(r"<svg .*?</svg>", html, flags=re.DOTALL)
    assert len(svgs) == 4  # two of speed, two of categories
    for svg in svgs:
        ElementTree.fromstring(svg.replace("xlink:", ""))  # well-formed
        assert "var(--series-0)" in svg
        assert "var(--muted)" in svg
        assert not re.search(r"(fill|stroke): #(?!000000)[0-9a-f]{6}", svg), "no fixed colour is left"
    declared = set(re.findall(r"(--[a-z0-9-]+):", html))
    assert set(re.findall(r"var\((--[a-z0-9-]+)\)", html)) <= declared
    assert html.count("prefers-color-scheme: dark") == 1


def test_bars_are_as_high_as_the_scores(html, folder):
    """Of each category's bars in the plot of image AUROC, the highest is the best model's."""
    svg = re.findall(r"<svg .*?</svg>", html, flags=re.DOTALL)[2]
    heights = {}
    for path, colour in re.findall(r'<path d="(M[^"]*z\s*)"[^>]*style="fill: (var\(--series-\d\))', svg):
        points = np.array(re.findall(r"-?[\d.]+", path), float).reshape(-1, 2)
        heights.setdefault(colour, []).append(np.ptp(points[:, 1]))
    assert sorted(len(bars) for bars in heights.values()) == [2, 3, 3, 3]
    ours, best = heights["var(--series-0)"], heights["var(--series-2)"]
    # Bars start at 50 %: 0.901, 0.904, 0.907 and 0.991, 0.994, 0.997.
    np.testing.assert_allclose(np.array(ours) / best, [(90.1 - 50) / (99.1 - 50), 40.4 / 49.4, 40.7 / 49.7], rtol=1e-3)


def test_pictures_of_the_gallery(html):
    images = [attributes for tag, attributes in Tags(html).tags if tag == "img"]
    # Best and worst of three defects and a sound image, each with input, truth and the maps of two models.
    assert len(images) == 3 * (2 + 2)
    for image in images:
        assert image["alt"]
        content = base64.b64decode(image["src"].partition(",")[2])
        assert Image.open(io.BytesIO(content)).size == (8, 8)


def test_cases_are_the_best_and_the_worst(folder):
    members = contenders(read_results([folder]))["MVTecAD"]
    (gallery,) = galleries(members, ["carpet", "bottle"], count=1)
    assert gallery.category == "bottle"
    assert [contender.row.model for contender in gallery.contenders] == ["CutPaste", "SSM"]
    assert [(case.kind, case.name) for case in gallery.cases] == [
        ("best", "scratch/000.png"),
        ("worst", "scratch/001.png"),
        ("sound", "good/000.png"),
    ]
    assert gallery.cases[0].scores == (0.9, 0.9), "of this image, whatever the order in the file"
    best, flat = gallery.cases[0].maps
    assert best[0, 0].astype(int).sum() > best[7, 7].astype(int).sum() + 100
    assert np.ptp(flat.mean(axis=(0, 1))) > 0
    assert galleries(members, ["bottle"], count=0) == []


def test_colours_see_ranks_alone():
    values = np.random.default_rng(0).random((100, 10, 10))
    ordered = np.sort(values, axis=None)
    rare = rarity(values, ordered)
    powers = values**9
    np.testing.assert_array_equal(rarity(powers, np.sort(powers, axis=None)), rare)
    assert float(rarity(ordered[0], ordered)) < 1e-3
    assert float(rarity(ordered[-100], ordered)) == pytest.approx(2 / 3, abs=1e-3), "one in a hundred"
    assert (rarity(ordered[-10:], ordered) == 1).all(), "one in a thousand"
    flat = np.full(50, 7)
    np.testing.assert_allclose(rarity(flat, flat), np.log(0.5) / np.log(1e-3))


def test_separation_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    values, mask = rng.integers(0, 5, (9, 7)), rng.random((9, 7)) < 0.3
    assert separation(values, mask) == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()))


def test_markdown_tables_are_tables_and_their_plots_are_there(written):
    for path in (written / "out/report.md", written / "docs/page.md"):
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block
        links = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
        assert len(links) == 5
        assert all((path.parent / link).is_file() for link in links)
        settings = "256\N{MULTIPLICATION SIGN}256 | 10,000 updates | 3"
        assert f"| CutPaste | Random weights at the start | {settings} | **90.4 ± 0.1** |" in text
        assert "| bottle | **90.4 ± 0.1** | 98.3 | \N{MINUS SIGN}7.9 |" in text
    assert [link.partition("/")[0] for link in links] == ["page"] * 5


def test_plots_are_written_as_png_and_svg(written):
    for kind in ("image_AUROC_speed", "image_AUROC", "legend"):
        path = written / f"out/plots/MVTecAD_{kind}"
        assert Image.open(path.with_suffix(".png")).width > 400
        assert ElementTree.parse(path.with_suffix(".svg")).getroot().tag.endswith("svg")


def test_summary_holds_what_the_tables_show(written):
    with (written / "out/summary.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    found = {(line["model"], line["metric"], line["category"]): line for line in lines}
    line = found["CutPaste", "image_AUROC", "bottle"]
    assert (line["mean"], line["std"], line["runs"], line["published"], line["gap"]) == (
        "90.4",
        "0.1",
        "3",
        "98.3",
        "-7.9",
    )
    assert (line["resolution"], line["budget"], line["start_weights"]) == ("256x256", "10000 updates", "random")
    assert ("STSSAD", "image_AUROC", "mean") not in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nowhere.csv"], "nowhere.csv'"), (["x", "--cases=-1"], "cases"), (["x", "--page", "a.txt"], ".md")],
)
def test_wrong_requests(arguments, message, capsys):
    assert cli.main(["report", *arguments]) == 2
    assert message in capsys.readouterr().err
