from inspect import signature

from fphojax.app.stages.stage_report import StageReport, timed


def test_a_stage_states_its_time(monkeypatch):
    clock = iter((10.0, 12.5))
    monkeypatch.setattr("fphojax.app.stages.stage_report.time.perf_counter", lambda: next(clock))

    def stage(settings, *, progress=False):
        return StageReport("stage", f"{settings} {progress}", level="look at this")

    report = timed(stage)("good", progress=True)
    assert (report.seconds, report.verdict, report.level) == (2.5, "good True", "look at this")
    assert signature(timed(stage)) == signature(stage)
