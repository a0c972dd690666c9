"""Programs compiled in advance: when it is done, and what it needs."""

from types import SimpleNamespace

import pytest

import fphojax.app.stages.warm as stage
from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError
from fphojax.inference.methods import NUTS, Laplace


@pytest.fixture
def patches(monkeypatch):
    """A field of so many patches, of which the first so many need a program each; returns how many were fitted."""

    def field(n_patch, n_new):
        ready, fitted = [], []
        model = SimpleNamespace(optics=SimpleNamespace(n_source=2))

        def fit(method, models, starts, **options):
            fitted.append(method)
            if len(fitted) <= n_new:
                ready.append(1)
            return models

        def fit_sources(settings, folder, method, **options):
            assert not folder.exists()
            for _ in range(n_patch):
                method.fit([model], [{}], seeds=[0])

        monkeypatch.setattr(NUTS, "fit", fit)
        monkeypatch.setattr(stage, "n_ready", lambda: len(ready))
        monkeypatch.setattr(stage, "fit_sources", fit_sources)
        return fitted

    return field


def settings(**changes):
    return Settings(fitsfiles=["image.fits"], bandlist=["r"], outbase="run", **changes)


@pytest.mark.parametrize(("n_patch", "n_new", "n_fitted"), [(5, 2, 5), (1000, 3, 3 + stage.SETTLED)])
def test_it_ends_where_patches_need_nothing_new(patches, n_patch, n_new, n_fitted):
    fitted = patches(n_patch, n_new)
    report = stage.warm(settings(raw_catalog="peaks.fits"))
    assert len(fitted) == n_fitted
    assert {(method.draws, method.warmup, method.chains) for method in fitted} == {(1, 1, 1)}
    assert report.verdict == f"{n_new} programs, for patches of up to 2 sources, ready for others."


def test_ctrl_c_is_no_end(patches, monkeypatch):
    patches(1, 1)

    def interrupted(*_, **__):
        raise KeyboardInterrupt("interrupted")

    monkeypatch.setattr(stage, "fit_sources", interrupted)
    with pytest.raises(KeyboardInterrupt, match="interrupted"):
        stage.warm(settings(raw_catalog="peaks.fits"))


def test_methods_keep_their_other_options():
    short = stage._Shortest(NUTS(max_treedepth=7, full_cov=False))._short
    assert (short.max_treedepth, short.full_cov) == (7, False)
    assert stage._Shortest(Laplace()).n_draw == 1


def test_without_sources_nothing_is_known():
    with pytest.raises(InputError, match="raw_catalog: not given, expected a catalogue"):
        stage.warm(settings())
