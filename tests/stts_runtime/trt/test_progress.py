from stts_runtime.trt.progress import Phases


def test_the_share_follows_the_outermost_phase_through_nested_ones():
    told = []
    phases = Phases(lambda name, share: told.append((name, round(share, 3))))
    phases.start("build", None, 2)
    phases.start("optimise", "build", 4)
    phases.step("optimise", 1)
    phases.finish("optimise")
    phases.step("build", 0)
    phases.start("time", "build", 2)
    phases.step("time", 0)
    phases.step("build", 1)
    assert told == [
        ("build", 0.0),
        ("optimise", 0.0),
        ("optimise", 0.25),
        ("build", 0.5),
        ("time", 0.5),
        ("time", 0.75),
        ("build", 1.0),
    ]


def test_it_never_goes_back_and_survives_phases_out_of_order():
    told = []
    phases = Phases(lambda name, share: told.append(share))
    phases.step("never begun", 3)
    phases.start("build", None, 0)
    phases.start("inner", "build", 2)
    phases.step("inner", 1)
    phases.finish("build")
    phases.step("inner", 9)
    phases.finish("build")
    phases.start("build", None, 10)
    assert told == sorted(told)
    assert max(told) <= 1.0
