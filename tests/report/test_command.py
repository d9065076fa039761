# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl report``: the files it writes."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomalib_ssl import cli
from anomalib_ssl.comparison.row import COLUMNS, Row
from anomalib_ssl.report import plots
from anomalib_ssl.report.contenders import contenders
from anomalib_ssl.report.formatting import category_name
from anomalib_ssl.report.gallery import galleries, rarity, separation
from anomalib_ssl.report.page import make_page
from anomalib_ssl.report.reading import read_results
from anomalib_ssl.report.tables import dataset_tables


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


def test_markdown_has_a_line_for_each_model_and_a_column_for_each_category(written):
    text = (written / "docs/page.md").read_text(encoding="utf-8")
    table = text.partition("image AUROC per category\n\n")[2].partition("\n\n###")[0]
    assert table.startswith("In brackets, what is published and the gap.")
    head, _, *lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "|" in line]
    assert head[3:] == ["carpet", "bottle", "metal nut", "**texture**", "**object**", "**mean**"]
    assert [line[0] for line in lines] == ["CutPaste", "SSM", "Patchcore", "STSSAD"]
    assert lines[0][1:5] == [
        "256\N{MULTIPLICATION SIGN}256",
        "10,000 updates",
        "90.1 \N{PLUS-MINUS SIGN} 0.1 (93.1, \N{MINUS SIGN}3.0)",
        "90.4 \N{PLUS-MINUS SIGN} 0.1 (98.3, \N{MINUS SIGN}7.9)",
    ]
    assert lines[3][5:] == ["", "95.1 \N{PLUS-MINUS SIGN} 0.1", "", ""], "of STSSAD, which lacks a category"


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


def test_dots_lie_at_the_scores(folder):
    """A line for each model, the best mean on top, and for each category a colour and whiskers."""
    (members,) = contenders(read_results([folder])).values()
    tables = dataset_tables("MVTecAD", members)
    figure = plots.category_dots(tables, "image_AUROC")
    (axes,), (legend,) = figure.axes, figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(map(category_name, tables.categories))
    *dots, ticks = (line for line in axes.lines if len(line.get_xdata()) == len(members))
    scores = np.array([line.get_xdata() for line in dots]).T
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[0].startswith("Patchcore")
    ours = scores[names.index("CutPaste")]
    np.testing.assert_allclose(ours, [90.1, 90.4, 90.7], atol=1e-9)
    np.testing.assert_allclose(ticks.get_xdata()[names.index("CutPaste")], 90.4)
    means = np.nanmean(scores, axis=1)
    assert list(means) == sorted(means, reverse=True)
    assert np.isnan(scores).sum() == 1, "STSSAD lacks a category"
    assert np.isnan(ticks.get_xdata()).sum() == 1, "and has no mean"
    assert len(axes.containers) == len(tables.categories)


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
        assert len(links) == 4
        assert all((path.parent / link).is_file() for link in links)
        settings = "256\N{MULTIPLICATION SIGN}256 | 10,000 updates | 1.67 | 3"
        line = f"| CutPaste | Random weights at the start | {settings} | **90.4 ± 0.1** (LOW to HIGH) |"
        found = re.search(re.escape(line).replace("LOW", "([0-9.]+)").replace("HIGH", "([0-9.]+)"), text)
        # Student's interval of the three categories, whose means are 90.1, 90.4 and 90.7.
        np.testing.assert_allclose([float(end) for end in found.groups()], [89.65, 91.15], atol=0.15)
    assert [link.partition("/")[0] for link in links] == ["page"] * 4


def test_plots_are_written_as_png_and_svg(written):
    for kind in ("image_AUROC_speed", "image_AUROC"):
        path = written / f"out/plots/MVTecAD_{kind}"
        assert Image.open(path.with_suffix(".png")).width > 400
        assert ElementTree.parse(path.with_suffix(".svg")).getroot().tag.endswith("svg")


@pytest.fixture(scope="module")
def minutes(tmp_path_factory):
    """A report of two scores of one training, each after 1, 5 and 15 minutes, and of a model without a budget."""
    folder = tmp_path_factory.mktemp("minutes")
    rows = []
    for place, category in enumerate(("carpet", "bottle", "metal_nut")):
        common = {"status": "ok", "dataset": "MVTecAD", "category": category, "seed": 0, "resolution": "64x64"}
        common |= {"pretrained": False}
        for budget in (15, 1, 5):
            for scorer, more in (("knn", 0.02), ("mean", 0)):
                value = 0.5 + 0.02 * budget + 0.03 * place + more
                own = {"pixel_AUPRO": value - 0.1, "training_duration": 60.0 * budget, "fit_duration": 1e4}
                own |= {"model_args": json.dumps({"scorer": scorer}), "weights": f"{category}{budget}"}
                budgets = {"budget": f"{budget} minute{'s' * (budget > 1)}"}
                job = f"{category}{budget}{scorer}"
                rows.append(Row(job=job, model="CutPaste", image_AUROC=value, **common, **own, **budgets))
        rows.append(
            Row(job=category, model="Padim", fit_duration=30.0, image_AUROC=0.7, **common | {"pretrained": True})
        )
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *(row.cells() for row in rows)])
    page = folder / "minutes.md"
    assert cli.main(["report", str(folder), "--output", str(folder / "out"), "--page", str(page)]) == 0
    return folder


def test_curves_go_through_the_means(minutes):
    (members,) = contenders(read_results([minutes])).values()
    tables = dataset_tables("MVTecAD", members)
    for metric, less in (("image_AUROC", 0), ("pixel_AUPRO", 10)):
        figure = plots.score_over(tables, metric, "minutes")
        (axes,), (legend,) = figure.axes, figure.legends
        means = [55 - less, 63 - less, 83 - less]
        expected = [([1, 5, 15], [mean + 2 for mean in means]), ([1, 5, 15], means)]
        expected += [([0.5], [70])] if metric == "image_AUROC" else []
        assert len(axes.lines) == len(expected)
        for line, points in zip(axes.lines, expected, strict=True):
            np.testing.assert_allclose(line.get_data(), points)
        names = [text.get_text() for text in legend.get_texts()]
        assert names == ["CutPaste (scorer knn)", "CutPaste (scorer mean)", "Padim"][: len(expected)]
        assert axes.get_xscale() == "log"


def test_the_page_of_minutes(minutes):
    text = (minutes / "minutes.md").read_text(encoding="utf-8")
    lines = [
        [cell.strip() for cell in line.split(" | ")]
        for line in text.splitlines()
        if re.match(r"\| .* \| .* weights", line)
    ]
    assert [(name, minutes) for name, _, _, _, minutes, *_ in lines] == [
        (f"| CutPaste (scorer {scorer}, for {budget}) \\[{number}\\]", minutes)
        for number, (budget, minutes) in enumerate(
            [("1 minute", "1.00"), ("5 minutes", "5.00"), ("15 minutes", "15.0")], 1
        )
        for scorer in ("knn", "mean")
    ] + [("| Padim", "0.500")]
    html = (minutes / "out/report.html").read_text(encoding="utf-8")
    for shown in (text.replace("\\", ""), html):
        assert shown.count("Lines with the same number in brackets share a training") == 1
        assert shown.count("has a 95 % interval that contains 0") == 1
        assert shown.count("measured on raw scores and maps, not on") == 1
    links = re.findall(r"\(minutes/(.*)_minutes\.svg\)", text)
    assert links == ["MVTecAD_image_AUROC", "MVTecAD_pixel_AUPRO"]
    assert all((minutes / f"minutes/{link}_minutes.{kind}").is_file() for link in links for kind in ("svg", "png"))
    assert html.count('over minutes of training"') == 2
    with (minutes / "out/summary.csv").open(encoding="utf-8", newline="") as file:
        found = {(line["model"], line["minutes"]) for line in csv.DictReader(file)}
    assert {("Padim", "0.5"), ("CutPaste (scorer knn, for 15 minutes)", "15")} <= found


def test_one_budget_makes_no_curve(written):
    assert not list(written.rglob("*_minutes.*"))
    assert "over minutes" not in (written / "out/report.html").read_text(encoding="utf-8")


def test_scores_of_the_stock_command_are_told_apart(tmp_path, folder):
    path = tmp_path / "results.csv"
    path.write_text(
        "seed,model.class_path,data.class_path,data.init_args.category,image_AUROC\n0,a.Padim,b.MVTecAD,tile,0.5\n",
        encoding="utf-8",
    )
    for results, told in (([path, folder], True), ([folder], False)):
        facts = make_page(read_results(results), "", 0).facts
        assert ("of normalised and clamped scores" in facts.get("tables of anomalib benchmark", "")) == told


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
