"""Threads that share out work: errors, calls from several threads at once, and forks."""

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, get_ident

import pytest

from sklearn_san.compiled.engine import Threads


def test_every_task_is_done_once():
    done = []
    Threads(3).run([lambda i=i: done.append(i) for i in range(100)])
    assert sorted(done) == list(range(100))


def test_tasks_are_shared_out():
    together, names = Barrier(2, timeout=30.0), set()

    def task():
        together.wait()  # breaks unless two threads are here
        names.add(get_ident())

    Threads(2).run([task, task])
    assert len(names) == 2


def test_after_an_error_nothing_more_is_begun_and_threads_go_on():
    done = []

    def fail():
        raise RuntimeError("by a task")

    for _ in range(3):
        with pytest.raises(RuntimeError, match="by a task"):
            Threads(2).run([fail, fail, *[lambda: done.append(1)] * 50])
    assert not done
    Threads(2).run([lambda: done.append(1)] * 50)
    assert len(done) == 50


def test_who_finds_all_threads_busy_works_alone():
    begun, may_end = Barrier(3, timeout=30.0), Event()

    def long():
        begun.wait()
        assert may_end.wait(30.0)

    with ThreadPoolExecutor(1) as other:
        first = other.submit(Threads(2).run, [long, long])  # in one of ours and in its own
        begun.wait()
        done = []
        Threads(2).run([lambda: done.append(get_ident())] * 5)
        assert set(done) == {get_ident()}
        assert not first.done()
        may_end.set()
        first.result(30.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    Threads(2).run([lambda: None] * 4)
    child = os.fork()
    if child == 0:
        done = []
        try:
            Threads(2).run([lambda: done.append(1)] * 4)
        finally:
            os._exit(0 if len(done) == 4 else 1)
    assert os.waitpid(child, 0)[1] == 0
