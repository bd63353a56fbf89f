from pathlib import Path

from stts_export.train.logs import MetricsLog, read_log


def test_a_resumed_log_forgets_the_steps_that_are_taken_again(tmp_path: Path):
    log = MetricsLog(tmp_path, 0)
    for step in (1, 2, 3):
        log.write({"step": step, "loss": 1.0 / step})
    log.close()
    log = MetricsLog(tmp_path, 2)
    log.write({"step": 3, "loss": 9.0})
    log.close()
    assert [(line["step"], line["loss"]) for line in read_log(tmp_path / "log.jsonl")] == [(1, 1.0), (2, 0.5), (3, 9.0)]


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path: Path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1]


def test_values_reach_tensorboard(tmp_path: Path):
    log = MetricsLog(tmp_path, 0)
    log.write({"step": 1, "loss": 2.0, "learning_rates": {"scorer": 1e-4}})
    log.close()
    assert list(tmp_path.glob("events.out.tfevents.*"))
