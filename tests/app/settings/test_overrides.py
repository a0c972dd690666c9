"""Settings of a command line: keys of parts, and what they replace in a file."""

import pytest

from fphojax.app.cli.option_types import read_settings
from fphojax.app.settings.overrides import assigned, merged
from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError


def test_settings_of_a_command_line():
    found = assigned(["gtol=1e-3", "bands = [g, r]", "outbase=a=b", "nothing="], Settings)
    assert found == {"gtol": 1e-3, "bands": ["g", "r"], "outbase": "a=b", "nothing": None}
    with pytest.raises(InputError) as caught:
        assigned(["gtol", "=3", "chains.of=4", "nuisance.=1", "a=1", "a=2", "b=[1"], Settings)
    lines = str(caught.value).splitlines()
    assert lines[:5] == [
        "--set: found 'gtol', expected KEY=VALUE",
        "--set: found '=3', expected KEY=VALUE",
        "--set: found chains.of, expected chains without a part, as it is no mapping of settings",
        "--set: found 'nuisance.=1', expected KEY=VALUE",
        "--set: found a more than once, expected each setting once",
    ]
    assert lines[5].startswith("--set: b: found while parsing")
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("bounds_kwargs.n_pix=3", {"bounds_kwargs": {"n_pix": 3}}),
        ("tweakbg.F1.a=0.5", {"tweakbg": {"F1.a": 0.5}}),
        ("band_patterns.*_g.fits=g", {"band_patterns": {"*_g.fits": "g"}}),
        ("priors.rhalf.loc=0.5", {"priors": {"rhalf": {"loc": 0.5}}}),
        ("ties.pa.7.b=8", {"ties": {"pa": {"7.b": 8}}}),
        ("preprocess.edge=cut", {"preprocess": {"edge": "cut"}}),
        ("priors.rhalf={distribution: Normal}", {"priors": {"rhalf": {"distribution": "Normal"}}}),
    ],
)
def test_keys_of_parts(change, expected):
    assert assigned([change], Settings) == expected


def test_parts_are_put_into_what_the_file_says():
    content = {"chains": 4, "bounds_kwargs": {"n_pix": 2, "pixscale": 0.1}, "nuisance": None, "detection": 3}
    changes = [
        "bounds_kwargs.n_pix=3",
        "bounds_kwargs.sersic_range=[1, 2]",
        "nuisance.sky=plane",
        "tweakbg={F: 1}",
        "detection.threshold=4",
    ]
    assert merged(content, assigned(changes, Settings)) == {
        "chains": 4,
        "bounds_kwargs": {"n_pix": 3, "pixscale": 0.1, "sersic_range": [1, 2]},
        "nuisance": {"sky": "plane"},
        "tweakbg": {"F": 1},
        "detection": 3,  # the settings are refused for it
    }
    assert content["bounds_kwargs"] == {"n_pix": 2, "pixscale": 0.1}
    whole = assigned(["bounds_kwargs={n_pix: 3}"], Settings)
    assert merged(content, whole)["bounds_kwargs"] == {"n_pix": 3}


def test_settings_of_a_command(tmp_path):
    config = tmp_path / "field.yml"
    config.write_text("bandlist: [F]\nfitsfiles: a.fits\nbounds_kwargs: {n_pix: 2, pixscale: 0.1}\n")
    settings = read_settings(
        "sample", config, ["bounds_kwargs.n_pix=3"], {"outbase": ("--out", tmp_path / "a$b")}
    )
    assert (settings.bounds_kwargs.n_pix, settings.bounds_kwargs.pixscale) == (3, 0.1)
    assert settings.outbase == tmp_path / "a$b"
    with pytest.raises(InputError, match="--set: found outbase beside --out, expected one of them"):
        read_settings("sample", config, ["outbase=b"], {"outbase": ("--out", tmp_path)})
