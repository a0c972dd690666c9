"""The inputs that the other tests spoil are good ones."""


def test_good_inputs_are_good(tiny, stored, finished):
    for field in (tiny, stored, finished):
        result = field.call("check", "{}/field.yml")
        assert result.exit_code == 0, result.output
    assert finished.call("sample", "{}/field.yml", "--resume", "--quiet").exit_code == 0
