"""What notebooks show of objects."""

import base64
import re
from io import BytesIO

import numpy as np
from matplotlib.image import imread

from fphojax.system.notebook_html import facts_html, facts_text, thumbnail


def test_facts_are_one_line_or_an_escaped_table():
    facts = {"": "'a'", "band": "<g>"}
    assert facts_text("Exposure", facts) == "Exposure('a', band <g>)"
    shown = facts_html("Exposure", facts, below="<p>more</p>")
    assert "&lt;g&gt;" in shown
    assert shown.endswith("<p>more</p>")


def test_thumbnail_is_dark_where_the_source_is_and_red_where_masked():
    data, ierr = np.zeros((400, 300)), np.ones((400, 300))
    data[350:370, 200:220], ierr[:40] = 100, 0
    encoded = re.search(r"base64,([^']+)'", thumbnail(data, ierr))[1]
    image = imread(BytesIO(base64.b64decode(encoded)), format="png")[..., :3]
    assert max(image.shape) <= 160
    assert image[13, 70].max() < 0.1  # the first row is the uppermost
    assert image[60, 20].min() > 0.5
    red, green, _ = image[-3, 20]
    assert red > green + 0.3


def test_thumbnail_without_a_valid_pixel():
    assert thumbnail(np.zeros((5, 5)), np.zeros((5, 5))).startswith("<img")
