#!/usr/bin/env python3
"""units.py LIBRARY: asks the modules of common/ that stage 2 stands on what no
peer can ask from outside. LIBRARY is those modules, compiled as one."""
import bisect
import collections
import ctypes
import os
import random
import resource
import sys
import time

C = ctypes.CDLL(sys.argv[1], use_errno=True)
READ, WRITE = 1, 2


class Buffer(ctypes.Structure):
    _fields_ = [("memory", ctypes.c_void_p), ("start", ctypes.c_size_t),
                ("len", ctypes.c_size_t), ("capacity", ctypes.c_size_t)]


class Deadline(ctypes.Structure):
    _fields_ = [("previous", ctypes.c_void_p), ("next", ctypes.c_void_p),
                ("at", ctypes.c_longlong), ("owner", ctypes.c_void_p)]


class Deadlines(ctypes.Structure):
    _fields_ = [("length_ms", ctypes.c_long), ("ends", Deadline)]


class Event(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("ready", ctypes.c_int),
                ("data", ctypes.c_void_p)]


C.buffer_append.argtypes = [ctypes.POINTER(Buffer), ctypes.c_char_p, ctypes.c_size_t]
C.buffer_append.restype = ctypes.c_bool
C.buffer_head.argtypes = [ctypes.POINTER(Buffer)]
C.buffer_head.restype = ctypes.c_void_p
C.buffer_consume.argtypes = [ctypes.POINTER(Buffer), ctypes.c_size_t]
C.deadline_set.argtypes = [ctypes.POINTER(Deadlines), ctypes.POINTER(Deadline), ctypes.c_longlong]
C.deadlines_wait.argtypes = C.deadlines_expired.argtypes = [ctypes.POINTER(Deadlines), ctypes.c_longlong]
C.deadlines_wait.restype = ctypes.c_long
C.deadlines_expired.restype = ctypes.c_void_p
C.histogram_quantile.argtypes = [ctypes.c_void_p, ctypes.c_double]
C.histogram_add.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
C.histogram_quantile.restype = ctypes.c_uint64
C.selector_new.restype = ctypes.c_void_p
for function in (C.selector_add, C.selector_modify, C.selector_next):
    function.restype = ctypes.c_bool
C.selector_add.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
C.selector_modify.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
C.selector_remove.argtypes = [ctypes.c_void_p, ctypes.c_int]
C.selector_wait.argtypes = [ctypes.c_void_p, ctypes.c_long]
C.selector_next.argtypes = [ctypes.c_void_p, ctypes.POINTER(Event)]
C.selector_free.argtypes = [ctypes.c_void_p]


def a_buffer_is_a_queue():
    chance = random.Random(1)
    buffer, model = Buffer(), bytearray()
    for _ in range(20000):
        if chance.random() < 0.5:
            data = chance.randbytes(chance.choice([0, 1, 10, 1000, 5000]))
            assert C.buffer_append(buffer, data, len(data))
            model += data
        elif model:
            size = chance.choice([1, len(model) // 2, len(model)])
            C.buffer_consume(buffer, size)
            del model[:size]
        assert buffer.len == len(model)
        if model:
            assert ctypes.string_at(C.buffer_head(buffer), buffer.len) == model
        else:
            assert not buffer.memory, "an empty buffer holds memory"
    assert not C.buffer_append(Buffer(None, 0, 5, 5), b"x", 2**64 - 1)


def deadlines_are_due_in_order():
    chance = random.Random(1)
    queue = Deadlines()
    C.deadlines_start(ctypes.byref(queue), 100)
    all_of_them = [Deadline(owner=number + 1) for number in range(20)]
    due = collections.OrderedDict()  # number: when at the earliest
    now = 1000
    for _ in range(20000):
        now += chance.choice([0, 1, 7])
        number = chance.randrange(20)
        act = chance.random()
        if act < 0.4:
            C.deadline_set(queue, all_of_them[number], now)
            due.pop(number, None)
            due[number] = now + 101
        elif act < 0.6:
            C.deadline_clear(ctypes.byref(all_of_them[number]))
            due.pop(number, None)
        else:
            owner = C.deadlines_expired(queue, now)
            first = next(iter(due), None)
            if first is not None and due[first] <= now:
                assert owner == first + 1, (owner, first)
                due.pop(first)
            else:
                assert owner is None
        wait = min(due.values(), default=now - 1) - now
        assert C.deadlines_wait(queue, now) == (max(wait, 0) if due else -1)


def quantiles_are_right_within_one_percent():
    chance = random.Random(1)
    histogram = ctypes.create_string_buffer(1 << 20)
    values = []
    for _ in range(5000):
        value = int(2 ** (chance.random() * 40)) - 1
        bisect.insort(values, value)
        C.histogram_add(histogram, value)
    for share in (0.001, 0.5, 0.9, 0.99, 0.999, 1):
        exact = values[max(0, -int(-share * len(values) // 1) - 1)]
        got = C.histogram_quantile(histogram, share)
        assert abs(got - exact) <= exact / 100, (share, exact, got)
    assert C.histogram_quantile(histogram, 1) == values[-1]


def ready(selector, wait_ms=0):
    """One turn, as {descriptor: (ready, data)}."""
    event, turn = Event(), {}
    count = C.selector_wait(selector, wait_ms)
    assert count >= 0
    while C.selector_next(selector, event):
        turn[event.fd] = (event.ready, event.data)
    assert len(turn) == count
    return turn


def a_selector_tells_who_is_ready(backend):
    selector = C.selector_new(backend)
    ours, theirs = os.pipe()
    assert C.selector_add(selector, ours, READ, 11)
    assert C.selector_add(selector, theirs, 0, 22)
    assert ready(selector) == {}
    os.write(theirs, b"x")
    assert ready(selector) == {ours: (READ, 11)}
    assert ready(selector) == {ours: (READ, 11)}, "not level-triggered"
    assert C.selector_modify(selector, theirs, WRITE)
    assert ready(selector) == {ours: (READ, 11), theirs: (WRITE, 22)}
    assert C.selector_modify(selector, ours, 0)
    assert ready(selector) == {theirs: (WRITE, 22)}
    assert C.selector_modify(selector, ours, READ)
    # What is removed in a turn is not told in it, also if it is added anew.
    for add in (False, True):
        assert C.selector_wait(selector, 0) == 2
        event = Event()
        assert C.selector_next(selector, event)
        other = ours + theirs - event.fd
        C.selector_remove(selector, other)
        if add:
            assert C.selector_add(selector, other, READ | WRITE, 33)
        assert not C.selector_next(selector, event), "told though removed"
        if not add:
            assert C.selector_add(selector, other, READ if other == ours else WRITE, 33)
    C.selector_remove(selector, theirs)
    C.selector_remove(selector, ours)
    assert ready(selector) == {}
    # The end of a pipe is a hang-up, and nothing else: told as what is watched.
    os.read(ours, 1)
    os.close(theirs)
    assert C.selector_add(selector, ours, READ, 44)
    assert ready(selector) == {ours: (READ, 44)}
    C.selector_remove(selector, ours)
    began = time.monotonic()
    assert ready(selector, 50) == {}
    assert time.monotonic() - began >= 0.05, "woke up too early"
    C.selector_free(selector)


def a_selector_of_many(backend):
    """Random changes on 300 pipes; now and then, a look at all."""
    chance = random.Random(1)
    selector = C.selector_new(backend)
    pipes = [os.pipe() for _ in range(300)]
    interest, full = {}, set()
    for step in range(6000):
        ours, theirs = chance.choice(pipes)
        if ours in interest and chance.random() < 0.3:
            C.selector_remove(selector, ours)
            del interest[ours]
        elif ours in interest:
            interest[ours] = chance.choice([0, READ])
            assert C.selector_modify(selector, ours, interest[ours])
        else:
            interest[ours] = chance.choice([0, READ])
            assert C.selector_add(selector, ours, interest[ours], ours)
        if ours not in full and chance.random() < 0.2:
            os.write(theirs, b"x")
            full.add(ours)
        if step % 100 == 0:
            wanted = {fd: (READ, fd) for fd in full if interest.get(fd)}
            turn = ready(selector)
            assert turn.items() <= wanted.items()
            assert len(turn) == min(len(wanted), 256), "somebody is left out"
    C.selector_free(selector)
    for pipe in pipes:
        os.close(pipe[0])
        os.close(pipe[1])


def select_refuses_what_is_too_high(backend):
    selector = C.selector_new(backend)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    high = os.dup2(os.open("/dev/null", os.O_RDONLY), 1024)
    allowed = C.selector_add(selector, high, 0, None) and \
        C.selector_modify(selector, high, READ)
    assert not allowed if backend == b"select" else True


a_buffer_is_a_queue()
deadlines_are_due_in_order()
quantiles_are_right_within_one_percent()
for back_end in (b"select", b"poll", b"epoll"):
    a_selector_tells_who_is_ready(back_end)
    a_selector_of_many(back_end)
    select_refuses_what_is_too_high(back_end)
assert C.selector_new(b"kqueue") is None
