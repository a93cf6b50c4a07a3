"""Runs a plan on Ray: what is committed is skipped, the rest is made part by part and committed.

What a model waits for is made first. Steps that ask one are gathered until nothing else that a model waits for can be made, and then
answered in one go, engine after engine, so that a model is loaded once for all of them. What no model waits for is made meanwhile
where the models run on GPUs or elsewhere, and before where they run on the CPUs (`order`, `lanes`).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline import asking, built, work
from pipeline.calls import Terms
from pipeline.cluster import Cluster, Patience, everywhere, joined
from pipeline.commit import commit
from pipeline.config import Config
from pipeline.engines.vllm import Vllm
from pipeline.interrupts import heed, interruptible
from pipeline.lanes import Lanes, Leaves, Room, nothing
from pipeline.lock import lock
from pipeline.objects import is_local
from pipeline.plan import Step
from pipeline.repair import Repairs
from pipeline.stages.base import ActorStage, ComparingStage, TableStage
from pipeline.store import CorruptPart, Dataset, Stats
from pipeline.stream import answered
from pipeline.tries import Asking, Course, Toll
from pipeline.watcher import Watcher
from pipeline.work import Job, Writer
from pipeline.workers import Workers, cluster_cpus, tables, wants_gpu, workers_of

LOOKED_S = 5.0
"""How often it is looked how far a table is in a store, where a look is a listing."""


@dataclass(frozen=True)
class Build:
    """One recipe's outputs being brought up to date."""

    config: Config
    steps: Sequence[Step]
    folder: Path
    watcher: Watcher

    def run(self) -> None:
        """Make every step that is not committed, in an order that loads each engine once.

        Raises BudgetError, EngineError, StageError or StoreError; what was committed stays, and the next run goes on.
        """
        with lock(self.folder), self.watcher.building():
            artifacts = [step.artifact(self.folder) for step in self.steps]
            todo = [step for step in self.steps if not step.artifact(self.folder).is_committed]
            for step, artifact in zip(self.steps, artifacts, strict=True):
                if step not in todo:
                    artifact.touch()
                    self.watcher.finished(step.name, artifact.stats(), None)
            for step in todo:  # what cannot run is told now and not after hours of work
                step.stage.check()
                for engine in step.engines.values():
                    engine.check()
            if todo:
                with interruptible(), joined(self.config.runtime) as cluster:
                    self._run(todo, cluster)
                    if not is_local(self.folder):
                        everywhere(built.forget, artifacts)
            built.forget(artifacts)

    def _run(self, todo: list[Step], cluster: Cluster) -> None:
        repairs = Repairs(self.steps, self.folder, self.watcher)
        while todo:
            try:
                Lanes(todo, partial(self._make_all, cluster), partial(self._room, todo, cluster)).run()
                todo = []
            except CorruptPart as corrupt:
                # What else was under way may be done by now.
                left = [step for step in todo if not step.artifact(self.folder).is_committed]
                todo = repairs.withdraw(corrupt, left)

    def _make_all(self, cluster: Cluster, steps: Sequence[Step], leaves: Leaves) -> None:
        """Make steps that come next together."""
        terms = {step.name: self._terms(step, cluster, leaves) for step in steps}
        if steps[0].engines:
            self._generate(steps, terms)
        elif isinstance(steps[0].stage, TableStage):
            self._tables(steps, terms)
        else:
            self._make(steps[0], terms[steps[0].name])

    def _room(self, todo: Sequence[Step], cluster: Cluster) -> Room | None:
        """What may be made beside the models that these steps ask; None where these are to have all CPUs."""
        takes = {step.name: self._terms(step, cluster, nothing).cpus for step in todo}

        def wanted() -> list[float | None]:
            return [
                engine.cpus(self.config.engine_runtime(name), takes[step.name])
                for step in todo
                for name, engine in step.engines.items()
            ]

        def leaves() -> float:
            return max(filter(None, wanted()), default=math.inf)

        def may(step: Step) -> bool:
            # Whoever holds GPUs holds all of them; steps of two lanes would wait for each other's.
            return takes[step.name] <= cluster_cpus() - leaves() and not wants_gpu(step.stage)

        now = wanted()
        if not (self.config.runtime.overlap and now) or None in now:
            return None
        return Room(leaves, may)

    def _make(self, step: Step, terms: Terms) -> None:
        began = time.monotonic()
        job = self._job(step)
        job.artifact.touch()
        self.watcher.started(step.name, job.over.count())
        with workers_of(step.stage, terms) as workers:
            if isinstance(step.stage, ComparingStage) and not work.is_built(job):
                _compare(job, step.stage, workers)
            if isinstance(step.stage, ActorStage):
                workers.result(work.build, job)
            total = self._parts(step, job, work.run_part, workers) if _gives_rows(step) else _all_of(job)
        self._commit(step, total, began)

    def _tables(self, steps: Sequence[Step], terms: Mapping[str, Terms]) -> None:
        """Make steps that take one worker each, beside each other."""
        began = time.monotonic()
        jobs = {step.name: self._job(step) for step in steps}
        courses = [_of(step, terms[step.name].steadily(work.run_table, jobs[step.name])) for step in steps]
        running = list(steps)
        for step in steps:
            self.watcher.started(step.name, None)
        looked = time.monotonic()
        for ended in tables(terms).ended(courses):
            for step, total in ended:
                parts = len(jobs[step.name].artifact.part_numbers())
                self.watcher.committed(step.name, parts, parts)
                self._commit(step, total, began)
                running.remove(step)
            if is_local(self.folder) or time.monotonic() - looked > LOOKED_S:
                looked = time.monotonic()
                for step in running:
                    job = jobs[step.name]
                    parts = len(job.artifact.part_numbers())
                    self.watcher.committed(step.name, parts, None)
                    self.watcher.advanced(step.name, Stats(parts * job.part_rows, parts * job.part_rows))

    def _parts(self, step: Step, job: Job, make: Callable[[Job, int], Stats], workers: Workers) -> Stats:
        """Make all parts, a bounded number at a time, note how many rows each has, and return their sum."""
        total, counts, of = Stats(), {}, len(job.paths)
        for made in workers.results(work.numbered(make), job, _all_parts(job)):
            if made:
                number, stats = made
                counts[number] = stats.rows_out
                total += stats
            self.watcher.committed(step.name, len(counts), of)
            if not step.engines:
                self.watcher.advanced(step.name, total)
        job.artifact.write_counts([counts[number] for number in sorted(counts)])
        return total

    def _generate(self, steps: Sequence[Step], terms: Mapping[str, Terms]) -> None:
        """Answer steps, one engine after the other, each loaded once for all of them, and again only for unreadable replies."""
        began = time.monotonic()
        jobs = {step.name: self._job(step) for step in steps}
        so_far = {name: _committed(job) for name, job in jobs.items()}
        for step in steps:
            jobs[step.name].artifact.touch()
            self.watcher.started(step.name, step.stage.most_rows(jobs[step.name].over.count()))
        for name in dict.fromkeys(name for step in steps for name in step.engines):
            asking_it = {step.name: jobs[step.name] for step in steps if name in step.engines}
            if isinstance(self.config.recipe.engines[name], Vllm):
                self._stream(name, asking_it, so_far, terms[next(iter(asking_it))].patience)
            else:
                self._ask(name, asking_it, terms)
            self.watcher.engines(name, None)
        for step in steps:
            workers = Workers(terms[step.name])
            self._commit(step, self._parts(step, jobs[step.name], asking.assemble, workers), began)

    def _ask(self, engine: str, jobs: Mapping[str, Job], all_terms: Mapping[str, Terms]) -> None:
        """Have workers answer all unanswered requests of the jobs, each with an engine of its own."""
        for name, job in jobs.items():
            terms, runtime = all_terms[name].unlimited(), job.engines[engine].runtime
            workers, toll, of = Workers(terms), Toll(runtime.set_aside), len(job.paths)
            committed, parts = Stats(), 0  # with several writers all lies in pieces until the last has answered
            courses = (
                Asking(name, number, engine, job.piece_rows, toll, terms.retries, terms.patience.tell).course()
                for (number,) in _all_parts(job)
            )
            for ended in workers.ended(workers.of(job, courses), runtime.most):
                self.watcher.engines(engine, workers.asking)
                if len(job.engines) == 1:
                    parts += len(ended)
                    self.watcher.committed(name, parts, of)
                    for stats in ended:
                        committed += Stats(stats.rows_out, stats.rows_out, {}, stats.prompt_tokens, stats.output_tokens)
                if not ended or len(job.engines) == 1:
                    under_way = 0 if ended else job.artifact.rows_in_pieces()
                    self.watcher.advanced(name, committed + Stats(under_way, under_way))

    def _stream(self, engine: str, jobs: dict[str, Job], so_far: dict[str, Stats], patience: Patience) -> None:
        """Send all unanswered requests of the jobs through one vLLM, and those whose reply cannot be read once more."""
        parts = [
            {"job": name, "number": number}
            for name, job in jobs.items()
            for number in sorted({*range(len(job.paths))} - {*job.artifact.part_numbers()})
        ]
        while parts:
            unread = []
            for part, stats in answered(engine, jobs, parts, patience, partial(self.watcher.engines, engine)):
                heed()
                if stats.noted["unread"] and part not in unread:
                    unread.append(part)
                name = part["job"]
                so_far[name] += stats
                self.watcher.advanced(name, so_far[name])
            parts = unread

    def _commit(self, step: Step, total: Stats, began: float) -> None:
        seconds = time.monotonic() - began
        commit(step, self.folder, total, seconds, self._allowed(step))
        self.watcher.finished(step.name, total, seconds)

    def _terms(self, step: Step, cluster: Cluster, leaves: Leaves) -> Terms:
        runtime = self.config.runtime
        takes = runtime.step(step.name)
        memory = int((takes.memory_gib or 0) * 2**30)
        retries = runtime.retries if takes.retries is None else takes.retries
        cpus, timeout_s = cluster.logical(takes.cpus), takes.task_timeout_s or runtime.task_timeout_s
        tell = partial(self.watcher.told, step.name)
        patience = Patience(runtime.wait_s, runtime.give_up_s, tell, is_ours=cluster.is_ours)
        return Terms(step.name, patience, cpus, memory, retries, timeout_s, leaves=leaves)

    def _allowed(self, step: Step) -> float:
        return self.config.runtime.max_rejected.get(step.name, step.stage.may_reject())

    def _job(self, step: Step) -> Job:
        runtime = self.config.runtime
        return Job(
            name=step.name,
            stage=step.stage,
            row_type=step.row_type,
            artifact=step.artifact(self.folder),
            inputs={
                field: Dataset(given[0].row_type, tuple(one.artifact(self.folder) for one in given))
                for field, given in step.inputs.items()
            },
            files=step.files,
            prompts=step.prompts,
            part_rows=runtime.part_rows,
            piece_rows=runtime.piece_rows,
            engines={
                name: Writer(engine, self.config.engine_runtime(name), step.engine_identity(name))
                for name, engine in step.engines.items()
            },
            most_errors=self._allowed(step),
        )


def _committed(job: Job) -> Stats:
    """What an earlier run has answered: finished parts and pieces."""
    rows = job.artifact.replies_there()
    return Stats(rows, rows)


def _compare(job: Job, stage: ComparingStage, workers: Workers) -> None:
    """Spread the rows of a comparing stage over buckets, and gather each bucket; what a killed run had done stays."""
    cut = [(one, number) for number, one in enumerate(work.cut_in_shares(job))]
    buckets = [(bucket,) for bucket in range(stage.buckets(job.over.count()))]
    for function, todo in ((work.spread, cut), (work.gather, buckets)):
        for _ in workers.results(function, job, todo):
            pass


def _of(step: Step, course: Course) -> Course:
    """The course, whose end says which step it is of."""
    return step, (yield from course)


def _gives_rows(step: Step) -> bool:
    return not isinstance(step.stage, ActorStage) or step.stage.gives_rows


def _all_of(job: Job) -> Stats:
    """What became of the rows of a step that gives none: all are in what it built."""
    rows = job.over.count()
    return Stats(rows, rows)


def _all_parts(job: Job) -> Iterator[tuple[int]]:
    return ((number,) for number in range(len(job.paths)))
