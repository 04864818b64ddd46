"""What `python -m pipeline.doctor` finds and stages refuse, each in a real state of Git, the disk or the user."""

import errno
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from support.pictures import pictures
from support.project import PROJECT
from support.real_repro import dvc
from support.settings import change

from image_classifier.project import doctor
from image_classifier.project.definition import read_project
from image_classifier.project.doctor import Finding
from image_classifier.project.params import load_params
from image_classifier.system.errors import UserError

AUTHOR = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
IDENTITY = {f"GIT_{role}_{what}": "test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)


def start(module: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=os.environ | more, capture_output=True, text=True)


def git(*arguments: str) -> None:
    subprocess.run(["git", *AUTHOR, *arguments], check=True, capture_output=True)


def test_a_project_in_order_gets_a_line_for_each_check_in_a_second(workspace: Path) -> None:
    for name in ("pyproject.toml", "requirements.txt"):
        shutil.copy(PROJECT / name, workspace)
    started = time.process_time()
    levels = {finding.level for finding in doctor.examine(read_project())}
    assert time.process_time() - started < 1
    assert levels <= {"ok", "warning"}  # warnings concern this machine: its packages, its disk
    modules = subprocess.run(
        [sys.executable, "-c", "import sys, pipeline.doctor; print('torch' in sys.modules, 'mlflow' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert modules.stdout == "False False\n"


def test_the_doctor_fails_for_an_error_only_and_names_the_remedy(workspace: Path) -> None:
    done = start("pipeline.doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(".git")
    done = start("pipeline.doctor")
    assert done.returncode == 1
    assert "error:   no Git repository here" in done.stdout
    assert "`git init && git add -A && git commit -m Start`" in done.stdout


def test_a_copy_without_git_runs_after_make_check(workspace: Path) -> None:
    shutil.rmtree(".git")
    done = start("pipeline.check")  # as `make repro` does first
    assert done.returncode == 0, done.stderr
    assert "no Git repository here: DVC was set to work without one" in done.stdout
    done = start("dvc", "repro", "download")
    assert done.returncode == 0, done.stdout + done.stderr
    git("init")
    assert doctor.git_repository().text.endswith("`dvc config --local --unset core.no_scm`")


def test_a_shallow_clone_loses_no_experiment(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    git("commit", "--allow-empty", "--message", "Another")
    clone = tmp_path_factory.mktemp("shallow") / "clone"
    git("clone", "--depth", "1", workspace.as_uri(), str(clone))
    os.chdir(clone)
    assert "git fetch --unshallow" in doctor.git_history().text
    done = start("dvc", "exp", "run", "--temp", "download")
    assert done.returncode != 0
    assert "a shallow clone" in done.stdout + done.stderr
    git("fetch", "--unshallow")
    assert doctor.git_history().level == "ok"


def test_a_module_that_git_does_not_know_is_named_before_and_in_an_experiment(workspace: Path) -> None:
    Path("src/image_classifier/mine.py").touch()
    Path("pipeline/download.py").write_text("import image_classifier.mine\n" + Path("pipeline/download.py").read_text())
    found = doctor.unknown_modules()
    assert (found.level, "src/image_classifier/mine.py" in found.text) == ("warning", True)
    done = start("dvc", "exp", "run", "--temp", "download")
    assert done.returncode != 0
    assert "error: no module image_classifier.mine in this experiment's copy of the project: `git add`" in done.stderr
    assert "Traceback" not in done.stderr
    git("add", "--all")
    assert doctor.unknown_modules().level == "ok"
    done = start("dvc", "exp", "run", "--temp", "download")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["data", "models", "reports/train"])
def test_outputs_that_a_link_leads_outside_are_refused_before_any_work(
    name: str, workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    outside = tmp_path_factory.mktemp("big disk")
    Path(name).symlink_to(outside)
    done = start("pipeline.download")  # the first stage, whichever stage the link concerns
    assert done.returncode == 1
    assert f"error: {name} is a link to {outside}" in done.stderr
    assert "dvc cache dir" in done.stderr
    assert list(outside.iterdir()) == []
    Path(name).unlink()
    Path("within").mkdir()
    Path(name).symlink_to(Path("within").resolve())
    assert doctor.links(read_project()).level == "ok"  # DVC accepts links inside the project


def test_a_bigger_disk_holds_the_data_as_the_advice_says(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    disk = tmp_path_factory.mktemp("big disk")
    for arguments in (["cache", "dir", "--local", str(disk)], ["config", "--local", "cache.type", "symlink,copy"]):
        assert start("dvc", *arguments).returncode == 0
    done = start("dvc", "repro", "download")
    assert done.returncode == 0, done.stdout + done.stderr
    assert start("dvc", "checkout", "--relink", "download").returncode == 0
    arrays = list(Path("data/digits").glob("*.npy"))
    assert arrays
    assert all(array.resolve().is_relative_to(disk) for array in arrays)


def test_a_user_id_without_a_name_is_named_and_make_gives_it_one(workspace: Path) -> None:
    nameless = [
        "unshare",
        "--user",
        "--map-user=12345",
        "--map-group=12345",
    ]  # as in a container started with `--user 12345`
    if subprocess.run([*nameless, "true"], capture_output=True).returncode:
        pytest.skip("this user may not take another user id")
    check = [sys.executable, "-c", "import pipeline, image_classifier.project.doctor as s; print(s.user_name().text)"]
    environment = {name: value for name, value in os.environ.items() if name not in ("USER", "LOGNAME", "USERNAME")}
    done = subprocess.run([*nameless, *check], env=environment, capture_output=True, text=True)
    assert "user id 12345 has no name here" in done.stdout, done.stderr
    shutil.copy(PROJECT / "Makefile", "Makefile")
    with Path("Makefile").open("a") as makefile:
        makefile.write(f"\nstatus:\n\t{sys.executable} -m dvc status\n")
    done = subprocess.run([*nameless, "make", "status"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_python_or_package_is_named(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("pyproject.toml").write_text('[project]\nrequires-python = ">=3.8,<3.9"\ndependencies = []\n')
    Path("requirements.txt").write_text("filelock==0.1\n")
    assert doctor.python_and_packages().level == "error"
    asked = '[project]\nrequires-python = ">=3.11,<4.0"\ndependencies = ["filelock"]\n'
    Path("pyproject.toml").write_text(asked)
    found = doctor.python_and_packages()
    assert (found.level, found.text.startswith("filelock ")) == ("warning", True)
    of_this_python = f"filelock=={version('filelock')} ; python_version >= '3.11'  # via dvc\n"
    Path("requirements.txt").write_text(f"{of_this_python}filelock==0.1 ; python_version < '3.11'  # via dvc\n")
    assert doctor.python_and_packages().level == "ok"
    Path("pyproject.toml").write_text(asked.replace("filelock", "no-such-package"))
    assert doctor.python_and_packages().level == "error"


def test_git_that_refuses_or_does_not_know_anything_yet_is_named(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.git_repository().level == "ok"
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # Git's own switch: a folder of another user
    assert f"safe.directory {workspace}" in doctor.git_repository().text
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    shutil.rmtree(".git")
    git("init")
    assert "git commit" in doctor.git_repository().text
    assert len(doctor.unknown_modules().text) < 200  # it names three of 90 modules


def test_a_store_that_does_not_answer_is_named_without_its_password(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{nobody.getsockname()[1]}")
        found = doctor.store()
    assert found.level == "warning"
    assert "me:***@127.0.0.1" in found.text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace}/mlruns")
    assert doctor.store().level == "warning"


def test_a_gpu_that_is_not_there_is_named_before_the_data_is_fetched(workspace: Path) -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has an NVIDIA driver")
    compute = load_params(Path("params.yaml")).compute
    assert doctor.device(compute).level == "ok"
    found = doctor.device(compute.model_copy(update={"device": "cuda"}))
    assert found == Finding("error", found.text)
    assert "compute.device is cuda" in found.text


def test_a_python_without_the_packages_is_named_in_one_line(workspace: Path) -> None:
    command = [sys.executable, "-S", "-m", "pipeline.check"]  # -S: without installed packages
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no package ")
    assert done.stderr.count("\n") == 1


def test_a_stage_whose_results_would_be_lost_is_stopped(workspace: Path) -> None:
    Path("data").symlink_to("/")
    with pytest.raises(UserError, match="dvc cache dir"):
        doctor.require_lasting_results(read_project())


NO_FLOCK = """
#include <errno.h>
#include <stdlib.h>
int flock(int file, int operation) { errno = atoi(getenv("FLOCK_ERRNO")); return -1; }
"""


def without_locks(number: int) -> dict[str, str]:
    """An environment as on NFS without locks: the C library's own `flock` gives this error."""
    Path("no_flock.c").write_text(NO_FLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "no_flock.so", "no_flock.c"], check=True)
    return {"LD_PRELOAD": str(Path("no_flock.so").absolute()), "FLOCK_ERRNO": str(number)}


LOCK_AND_PRINT = """
import pipeline
from pathlib import Path
from image_classifier.system.locks import locked
with locked(Path("training.lock"), 0), locked(Path("publish.lock"), 600):
    print("locked")
"""


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EIO])
def test_a_file_system_says_in_any_way_that_it_has_no_locks(workspace: Path, number: int) -> None:
    environment = os.environ | without_locks(number)
    for _ in range(2):  # the second finds the files of the first
        words = [sys.executable, "-c", LOCK_AND_PRINT]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
        assert done.stdout == "locked\n", done.stderr
        assert done.stderr.count("warning: no file can be locked in ") == 2
        assert f"({os.strerror(number)}; NFS?): run one command at a time" in done.stderr


def test_a_file_system_without_locks_is_named_and_the_advice_lets_dvc_work(workspace: Path) -> None:
    environment = without_locks(errno.ENOLCK)
    found = start("pipeline.doctor", **environment).stdout
    assert "warning: files cannot be locked here (No locks available; NFS?)" in found
    assert start("dvc", "repro", "download", **environment).returncode != 0
    (advice,) = re.findall("`(rm .*? true)`", found)
    subprocess.run(advice.replace("dvc config", f"{sys.executable} -m dvc config"), shell=True, check=True)
    done = start("dvc", "repro", "download", **environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_read_only_folder_and_store_are_named(workspace: Path) -> None:
    shutil.copytree(".dvc", "build/demo/.dvc")
    shutil.copytree("pipeline", "build/demo/pipeline")  # of an earlier demo
    script = 'mount --bind . . && mount -o remount,bind,ro . && cd "$PWD" && exec "$0" -m "$1"'
    done, demo = (
        subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", script, sys.executable, module],
            capture_output=True,
            text=True,
        )
        for module in ("pipeline.doctor", "pipeline.demo")
    )
    if done.stderr.startswith(("unshare: ", "mount: ")):
        pytest.skip("this user may make no namespaces")
    assert f"error:   no file can be made in {workspace} (Read-only file system)" in done.stdout
    assert "does not answer (attempt to write a readonly database): stages continue without it" in done.stdout
    assert demo.stderr.startswith("error: ")
    assert demo.stderr.endswith(": Read-only file system; make room, or correct the permissions\n")


# Root may read and write everywhere, unless it gives that up.
AS_OWNER = [] if os.getuid() else ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.mark.parametrize("name", [".dvc/cache/files/md5", "reports/train", "checkpoints"])
def test_a_folder_of_another_user_stops_a_stage_before_any_work(name: str, workspace: Path) -> None:
    Path(name).mkdir(parents=True, exist_ok=True)
    Path(name).chmod(0o555)
    Path("data/photos").mkdir(0o555, parents=True)  # no stage's output
    reason = f"no file can be made in {workspace / name} (Permission denied): make room, or correct the permissions"
    for module, level in (("pipeline.doctor", "error:   "), ("pipeline.download", "error: ")):
        done = subprocess.run([*AS_OWNER, sys.executable, "-m", module], capture_output=True, text=True)
        assert done.returncode == 1
        assert level + reason in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert list(Path("data").iterdir()) == [Path("data/photos")]


def test_a_copy_without_git_that_may_not_be_changed_is_named(workspace: Path) -> None:
    shutil.rmtree(".git")
    Path(".dvc").chmod(0o555)
    done = subprocess.run([*AS_OWNER, sys.executable, "-m", "pipeline.check"], capture_output=True, text=True)
    assert "error: no Git repository here" in done.stderr
    assert f"error: no file can be made in {workspace / '.dvc'} (Permission denied)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_may_not_be_written_is_named_with_the_remedy(project: Path) -> None:
    Path("mlruns/mlflow.db").chmod(0o444)
    done = subprocess.run(
        [*AS_OWNER, sys.executable, "-m", "pipeline.sync"],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    reason, remedy = done.stderr.split(" failed: ")[1].split("; ")
    assert reason == "attempt to write a readonly database"
    assert remedy == "correct that, or set MLFLOW_TRACKING_URI to another\n"


@pytest.mark.parametrize(
    ("path", "command"), [("models/model.pt", "pipeline.predict docs"), ("mlruns/publish.lock", "pipeline.sync")]
)
def test_a_file_of_another_user_is_named(path: str, command: str, project: Path) -> None:
    Path(path).touch()
    Path(path).chmod(0)
    words, environment = [*AS_OWNER, sys.executable, "-m", *command.split()], os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.stderr.endswith(f"{path}: Permission denied; make room, or correct the permissions\n")
    assert "Traceback" not in done.stderr


def test_pictures_that_dvc_would_refuse_or_lack_are_named_with_the_remedy(workspace: Path) -> None:
    def found(folder: str) -> str:
        change(data={"dataset": "folder", "folder": folder})
        return doctor.pictures(read_project()).text

    assert found("~/photos") == f"data.folder is '~/photos', and DVC does not know ~: write {Path.home()}/photos"
    assert found("nowhere").startswith("data.folder is 'nowhere', and there is no such folder")
    assert found(".").endswith("and a stage writes data/folder: name a folder of pictures alone")
    pictures(Path("photos"))
    assert found("photos").startswith("Git does not have 20 files in photos, so `dvc exp run --temp`")
    dvc("add", "photos")
    assert found("photos") == "pictures in photos"
    Path("photos", "red", "\udcff.png").touch()
    assert "red/\\udcff.png' has a name that is not in UTF-8" in found("photos")
