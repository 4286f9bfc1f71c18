"""Where a job's work is done: `cluster` in `jobs/*.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from galbatch.spec.base import Line, Location, SettingError, Settings, Slug, say
from galbatch.spec.sizes import Size, Walltime, in_bytes, too_little
from galbatch.values import WORKER_MEMORY

WorkerStage = Literal["scan", "ingest", "train", "predict"]
STAGES: tuple[WorkerStage, ...] = ("scan", "ingest", "train", "predict")
"""Those that workers do; the driver does the others."""
GPU_FOR_CORES = 16
"""A GPU is taken to predict as fast as so many cores, where a job has both."""

WorkerCount = Annotated[int, Field(ge=1, le=10_000)]
Cores = Annotated[int, Field(ge=1, le=1024)]
Gpus = Annotated[int, Field(ge=0, le=64)]
LifetimeShare = Annotated[float, Field(ge=0.05, le=0.95)]
Port = Annotated[int, Field(ge=1024, le=65_535)]
Ports = Annotated[
    str,
    Field(
        pattern=r"^[1-9][0-9]{3,4}:[1-9][0-9]{3,4}$",
        json_schema_extra=say("first and last port, e.g. 40000:40099"),
    ),
]


Word = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_.@%+=:,/~-]+$",
        max_length=200,
        json_schema_extra=say(
            "one word of letters, digits and _.@%+=:,/~- (it is part of a script)"
        ),
    ),
]
"""What a queue's script takes without quotes."""
NOT_OPTIONS = frozenset(
    {
        *("cores", "processes", "memory", "walltime", "queue", "account", "project", "interface"),
        *("job_name", "name", "python", "death_timeout", "local_directory", "log_directory"),
        *("job_extra_directives", "job_script_prologue", "worker_extra_args", "security"),
        *("shared_temp_directory", "scheduler_options", "job_cls", "n_workers", "asynchronous"),
        *("protocol", "scheduler", "config_name"),
        *("extra", "env_extra", "job_extra", "header_skip"),
    }
)
"""Keywords of dask-jobqueue that other settings stand for, that are galbatch's alone, or old
names of these."""

_SETS = re.compile(r"[+\w.]+\s*=(?!=)")
_WORD = re.compile(r"(?<!\$)\{(\w+)\}")
_NUMBERS = ("cores", "gpus")
"""What a directive may have a number for, in braces."""
_PARALLEL = re.compile(r"-pe\s+\S+\s+\S")
_ASKED = re.compile(r"(?:^|\s)-l\s+(\S+)")
_MEMORY = re.compile("(?:^|,)[^=,]*(?:mem|rss|virtual_free)[^=,]*=")

_HOW_MANY = "expected a number of worker processes, e.g. 4, or [2, 40], got nothing"


class SerialCluster(Settings):
    """One process, one partition after the other."""

    kind: Literal["serial"]


class LocalCluster(Settings):
    """Worker processes on this machine."""

    kind: Literal["local"] = "local"
    workers: WorkerCount | None = None
    """By default one per core."""
    memory: Size = "3 GiB"
    """Limit of a worker."""


class CudaCluster(Settings):
    """One worker per GPU of this machine, and others beside them."""

    kind: Literal["cuda"]
    memory: Size = "16 GiB"
    """Limit of a worker that has a GPU."""
    cpu_workers: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Further workers, without a GPU, which scan and ingest."""
    cpu_memory: Size = "3 GiB"
    """Limit of each of these."""


class GroupChanges(Settings):
    """What a group of jobs has otherwise than the others; see `QueueGroup`."""

    workers: WorkerCount | tuple[WorkerCount, WorkerCount] | None = None
    cores: Cores | None = None
    gpus: Gpus | None = None
    processes: Cores | None = None
    memory: Size | None = None
    walltime: Walltime | None = None
    lifetime: LifetimeShare | None = None
    queue: Word | None = None
    account: Word | None = None
    directives: tuple[Line, ...] | None = None
    gpu_directives: tuple[Line, ...] | None = None
    prologue: tuple[Line, ...] | None = None
    stages: Annotated[tuple[WorkerStage, ...], Field(min_length=1)] | None = None


class QueueGroup(Settings):
    """Jobs of a queue that are alike."""

    workers: WorkerCount | tuple[WorkerCount, WorkerCount] | None = None
    """Worker processes, in all jobs together; `[2, 40]` for as many as there is work for, within
    these limits."""
    cores: Cores = 1
    """Cores of a job."""
    gpus: Gpus = 0
    """GPUs of a job: a worker process for each."""
    processes: Cores | None = None
    """Worker processes in a job. By default one for each GPU, or for each core where there is
    none."""
    memory: Size = "4 GiB"
    """Memory of a job."""
    walltime: Walltime = "01:00:00"
    """Time limit of a job. Work that takes longer goes on in further jobs."""
    lifetime: LifetimeShare = 0.75
    """Share of the walltime after which workers leave, before the queue ends them; each leaves up
    to a tenth of that earlier or later, so that not all are gone at once."""
    queue: Word | None = None
    account: Word | None = None
    directives: tuple[Line, ...] = ()
    """Further lines of the job script's header, e.g. `--constraint=ssd`; `{cores}` and `{gpus}` in
    them are the numbers of its cores and GPUs. A job of sge needs one for more cores than one,
    which only its site can name: `-pe smp {cores}`."""
    gpu_directives: tuple[Line, ...] | None = None
    """Lines of the header that ask for GPUs, with the same words for numbers. By default what the
    queue's own manual says: `--gres=gpu:{gpus}` for slurm."""
    prologue: tuple[Line, ...] = ()
    """Shell lines before a worker starts, e.g. `module load python`."""
    stages: Annotated[tuple[WorkerStage, ...], Field(min_length=1)] | None = None
    """What this group does. By default groups with GPUs train, and predict where there are enough
    of them; the others do the rest."""

    @property
    def per_job(self) -> int:
        """Worker processes in a job."""
        return self.processes or self.gpus or self.cores

    @property
    def least(self) -> int:
        """Worker processes, at least."""
        return self.workers[0] if isinstance(self.workers, tuple) else self.workers or 0

    @property
    def most(self) -> int:
        """Worker processes, at most."""
        return self.workers[1] if isinstance(self.workers, tuple) else self.workers or 0

    def check(self, *path: str) -> None:
        """See whether such a job can be.

        Parameters
        ----------
        *path : str
            The keys that lead to it, for the message.

        Raises
        ------
        SettingError
            If it cannot.
        """
        each = in_bytes(self.memory) // self.per_job
        if each < WORKER_MEMORY:
            problem = (
                f"{self.memory} for {self.per_job} workers in a job are {each >> 20} MiB "
                f"for each; {too_little()}"
            )
            raise SettingError(problem, *path, "memory")
        if self.gpus and self.per_job != self.gpus:
            problem = f"{self.processes} for {self.gpus} GPUs: each has one"
            raise SettingError(problem, *path, "processes")
        if self.workers is None:
            raise SettingError(_HOW_MANY, *path, "workers")
        if self.least > self.most:
            raise SettingError(f"{self.least} is more than {self.most}", *path, "workers")
        for number in (self.least, self.most):
            if number % self.per_job:
                lower, upper = number - number % self.per_job, number + -number % self.per_job
                fitting = f"{lower} or {upper}" if lower else f"{upper}"
                problem = (
                    f"{number} cannot be had with {self.per_job} in each job: "
                    f"write {fitting}, or other 'cores' or 'processes'"
                )
                raise SettingError(problem, *path, "workers")


class DriverJob(Settings):
    """The job of `galbatch submit`, which asks for the workers and hands out the work."""

    memory: Size = "4 GiB"
    cores: Cores = 1
    walltime: Walltime = "24:00:00"
    """Time limit. A driver that comes near it is followed by another; where a queue allows less, it
    refuses the driver until less is written here."""
    lifetime: LifetimeShare = 0.9
    """Share of the walltime after which the next driver takes over."""
    queue: Word | None = None
    """This and those below are the cluster's, unless they are given here."""
    account: Word | None = None
    directives: tuple[Line, ...] | None = None
    prologue: tuple[Line, ...] | None = None


class QueueCluster(QueueGroup):
    """Workers as jobs of an HPC queue, through dask-jobqueue."""

    kind: Literal["slurm", "pbs", "sge", "lsf", "htcondor"]
    groups: dict[Slug, GroupChanges] = Field(default_factory=dict)
    """Jobs that are not all alike, e.g. `cpu: {workers: 40}` and `gpu: {workers: 2, gpus: 1, queue:
    gpu}`: each has what the cluster says but for what it says itself."""
    driver: DriverJob = DriverJob()
    """The job that `galbatch submit` makes of the driver."""
    interface: Word | None = None
    """Network interface of the workers and the scheduler."""
    timeout: float = Field(default=300, ge=1, le=30 * 86_400)
    """Seconds to wait for the first worker."""
    death_timeout: float = Field(default=60, ge=5, le=86_400)
    """Seconds after which a worker ends that cannot reach the scheduler."""
    job_name: Word = "galbatch-worker"
    python: Line | None = None
    """The Python that starts a worker, where it is not at the same path as this one."""
    scheduler_port: Port | None = None
    worker_ports: Ports | None = None
    """Where a firewall leaves only some open."""
    options: dict[Slug, Any] = Field(default_factory=dict)
    """Further keywords of dask-jobqueue's cluster, as its documentation names them."""
    tls: bool = True
    """Whether driver and workers speak to each other encrypted, with certificates made for the run.
    Without, anyone who reaches the scheduler's port runs programs in your name."""

    @model_validator(mode="after")
    def _somebody_does_each_stage(self) -> Self:
        if self.groups and self.workers is not None:
            raise SettingError("give the number in each of the groups", "workers")
        groups = self.all_groups
        self._check_queues(groups)
        for name, group in groups.items():
            group.check(*_place_of(name))
        self._check_ports(groups)
        if taken := sorted(NOT_OPTIONS & {*self.options}):
            raise SettingError("see the settings of 'cluster' itself", "options", taken[0])
        for stage in STAGES:
            if not any(stage in done for done in self.stages_of.values()):
                problem = f"nobody does '{stage}'; without 'stages' somebody does each"
                raise SettingError(problem, "groups" if self.groups else "stages")
        return self

    @model_validator(mode="after")
    def _are_directives(self) -> Self:
        places: dict[tuple[str, ...], Settings] = {(): self, ("driver",): self.driver}
        places |= {_place_of(name): group for name, group in self.groups.items()}
        for place, settings in places.items():
            for key in ("directives", "gpu_directives"):
                for line in getattr(settings, key, None) or ():
                    _check_directive(line, *place, key)
        return self

    @model_validator(mode="after")
    def _are_of_the_queue(self) -> Self:
        groups = {_place_of(name): group for name, group in self.all_groups.items()}
        for place, group in {**groups, ("driver",): self.driver_group}.items():
            if self.kind == "htcondor":
                _check_condor(group, place)
            elif self.kind == "sge":
                _check_slots(group, place)
        return self

    @property
    def unasked(self) -> str:
        """What the queue is not asked for, as each site has a name of its own for it."""
        if self.kind != "sge":
            return ""
        named = f"-l {self.options.get('resource_spec', '')}"
        workers = all(_asks_memory([named, *one.directives]) for one in self.all_groups.values())
        if workers and _asks_memory(self.driver_group.directives):
            return ""
        what, key = ("the driver's memory", "driver.") if workers else ("memory", "")
        return (
            f"sge is not asked for {what}, which each site calls otherwise: "
            f'e.g. {key}directives: ["-l h_vmem=4G"]'
        )

    def _check_queues(self, groups: Mapping[str, QueueGroup]) -> None:
        """HTCondor has none."""
        places: dict[tuple[str, ...], str | None] = {(): self.queue, ("driver",): self.driver.queue}
        places |= {_place_of(name): group.queue for name, group in groups.items()}
        for place, queue in places.items():
            if self.kind == "htcondor" and queue:
                raise SettingError("htcondor has none; leave it out", *place, "queue")

    def _check_ports(self, groups: Mapping[str, QueueGroup]) -> None:
        """A worker and who watches over it each take a port, on a machine with several jobs too."""
        if self.worker_ports is None:
            return
        first, last = map(int, self.worker_ports.split(":"))
        needed = 2 * max(group.per_job for group in groups.values())
        if not 1024 <= first <= last <= 65_535:
            raise SettingError(f"{first}:{last} is no range within 1024:65535", "worker_ports")
        if last - first + 1 < needed:
            problem = f"a job's workers take {needed} ports, write at least that"
            raise SettingError(problem, "worker_ports")

    @property
    def all_groups(self) -> dict[str, QueueGroup]:
        """The groups, each with all that it has; one without a name where the job names none."""
        mine = {name: getattr(self, name) for name in QueueGroup.model_fields}
        if not self.groups:
            return {"": QueueGroup.model_construct(**mine)}
        found = {}
        for name, changes in self.groups.items():
            changed = {
                field: value
                for field in GroupChanges.model_fields
                if (value := getattr(changes, field)) is not None
            }
            found[name] = QueueGroup.model_construct(**(mine | changed))
        return found

    @property
    def driver_group(self) -> QueueGroup:
        """The driver's job as a group of one, with all that it has."""
        own = {
            name: value
            for name in DriverJob.model_fields
            if (value := getattr(self.driver, name)) is not None
        }
        usual = {name: getattr(self, name) for name in DriverJob.model_fields}
        return QueueGroup.model_validate({"workers": 1, "processes": 1, **usual, **own})

    @property
    def stages_of(self) -> dict[str, tuple[WorkerStage, ...]]:
        """What each group does."""
        groups = self.all_groups
        with_gpus = {name for name, group in groups.items() if group.gpus}
        if not with_gpus or len(with_gpus) == len(groups):
            return {name: group.stages or STAGES for name, group in groups.items()}
        cores = sum(group.most for name, group in groups.items() if name not in with_gpus)
        gpus = sum(group.most for name, group in groups.items() if name in with_gpus)
        second = stages_with_gpus(gpus, cores)
        first = tuple(stage for stage in STAGES if stage not in second)
        return {
            name: group.stages or (second if name in with_gpus else first)
            for name, group in groups.items()
        }


def _place_of(group: str) -> tuple[str, ...]:
    """The keys of `cluster` that lead to a group's settings."""
    return ("groups", group) if group else ()


def _check_directive(line: str, *place: str) -> None:
    """A line of a script's header is written without what begins each."""
    first, _, rest = line.strip().partition(" ")
    if first.startswith("#"):
        problem = f"'{line}': write '{rest.strip()}' alone; {first} is put in front of it"
        raise SettingError(problem, *place)
    for word in _WORD.findall(line):
        if word not in _NUMBERS:
            problem = f"'{line}': there is no number {{{word}}}; expected {{cores}} or {{gpus}}"
            raise SettingError(problem, *place)


def _check_condor(group: QueueGroup, place: tuple[str, ...]) -> None:
    """A submit file of HTCondor has names and values."""
    for word in ("directives", "gpu_directives"):
        for line in getattr(group, word) or ():
            if not _SETS.match(line):
                problem = (
                    f"'{line}' sets nothing; htcondor takes lines like "
                    "'requirements = (OpSysMajorVer == 9)'"
                )
                raise SettingError(problem, *place, word)


def _asks_memory(directives: Iterable[str]) -> bool:
    """Whether a job of SGE asks for memory, by whatever name."""
    return any(_MEMORY.search(asked) for line in directives for asked in _ASKED.findall(line))


def _check_slots(group: QueueGroup, place: tuple[str, ...]) -> None:
    """A job of SGE has one slot unless it names a parallel environment."""
    if group.cores > 1 and not any(map(_PARALLEL.match, group.directives)):
        problem = (
            f"sge gives a job one core, not {group.cores}, unless it names a parallel environment "
            'of the site (`qconf -spl` lists them): "-pe smp {cores}"'
        )
        raise SettingError(problem, *place, "directives")


def stages_with_gpus(gpus: int, cores: int) -> tuple[WorkerStage, ...]:
    """What workers with GPUs do, where there are others as well.

    Parameters
    ----------
    gpus, cores : int
        Workers that have a GPU, and workers that have none.
    """
    return ("train", "predict") if gpus * GPU_FOR_CORES >= cores else ("train",)


class AllocationCluster(Settings):
    """Workers in an allocation that is there already: `srun -K -n 10 galbatch run JOB`.

    Of the tasks of `srun` the first is Dask's scheduler, the second the driver; the others work.
    """

    kind: Literal["allocation"]
    memory: Size = "4 GiB"
    """Memory of a worker."""
    interface: Word | None = None
    """Network interface of the workers and the scheduler."""
    timeout: float = Field(default=300, ge=1, le=86_400)
    """Seconds to wait for the scheduler."""
    death_timeout: float = Field(default=60, ge=5, le=86_400)
    """Seconds after which a task ends that has lost the others."""
    tls: bool = True
    """Whether they speak to each other encrypted; see the `tls` of a queue."""


class TlsFiles(Settings):
    """Certificates, in PEM, as `distributed.Security` takes them."""

    ca: Location
    """Of who has signed the others'."""
    certificate: Location
    key: Location


SchedulerAddress = Annotated[
    str,
    Field(
        pattern=r"^((tcp|tls|ws|wss)://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\])"
        r":([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$",
        max_length=300,
        json_schema_extra=say(
            "an address with its port (1 to 65535), e.g. tls://node7:8786: tcp, tls, ws or wss"
        ),
    ),
]
_LOOPBACK = re.compile(r"^([a-z]+://)?(127(\.[0-9]{1,3}){3}|localhost|\[::1\])(:[0-9]+)?$")


class SchedulerCluster(Settings):
    """A Dask scheduler that runs already."""

    kind: Literal["scheduler"]
    address: SchedulerAddress
    tls: TlsFiles | Literal[False] | None = None
    """The certificates to speak to it with. `false` says that it is reached without, over a network
    that nobody else can use."""

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        encrypted = self.address.startswith(("tls://", "wss://"))
        if encrypted and not self.tls:
            problem = f"{self.address} needs certificates: ca, certificate and key"
            raise SettingError(problem, "tls")
        if not encrypted and self.tls:
            raise SettingError(f"expected tls://..., got {self.address}", "address")
        if not encrypted and self.tls is None and not _LOOPBACK.match(self.address):
            problem = (
                f"{self.address} is reached without encryption, so that others may run "
                "programs in your name; start the scheduler with certificates, or write tls: false"
            )
            raise SettingError(problem, "address")
        return self


Cluster = Annotated[
    SerialCluster
    | LocalCluster
    | CudaCluster
    | QueueCluster
    | AllocationCluster
    | SchedulerCluster,
    Field(discriminator="kind"),
]
