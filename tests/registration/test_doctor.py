# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl doctor`` as a user runs it, in environments that are well and in ones that are not."""

from types import SimpleNamespace

DOCTOR = "import sys; from anomalib_ssl.cli import main; sys.exit(main(['doctor']))"


def run(environment: SimpleNamespace, *flags: str, **options: object) -> SimpleNamespace:
    return environment.run(DOCTOR, *flags, **options)


def test_all_is_well(wheel: SimpleNamespace) -> None:
    result = run(wheel)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Registration: start-up file" in result.stdout
    row = next(line for line in result.stdout.splitlines() if "CutPaste" in line)
    assert row.count("found") == 3
    assert "not found" not in row
    assert "anomalib finds every model of this package" in result.stdout


def test_startup_file_that_did_not_run(wheel: SimpleNamespace) -> None:
    startup = wheel.site_packages / "anomalib_ssl.pth"
    text = startup.read_text()
    startup.write_text("")
    try:
        result = run(wheel)
    finally:
        startup.write_text(text)
    assert result.returncode == 1
    assert "Registration: import anomalib_ssl" in result.stdout
    assert next(line for line in result.stdout.splitlines() if "CutPaste" in line).count("found") == 3
    assert "Python did not run our start-up file" in result.stdout


def test_anomalib_absent(lonely: SimpleNamespace) -> None:
    quiet = lonely.run("import anomalib_ssl")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    asked = lonely.run("import anomalib_ssl; anomalib_ssl.register()")
    assert asked.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'anomalib'"

    result = run(lonely)
    assert (result.returncode, result.stderr) == (1, "")
    assert "anomalib is not installed." in result.stdout
    assert "anomalib cannot be imported: ModuleNotFoundError: No module named 'anomalib'" in result.stdout


def test_the_console_script_is_installed(lonely: SimpleNamespace) -> None:
    script = lonely.python.with_name("anomalib-ssl")
    assert lonely.execute(script, "--version").stdout == f"anomalib-ssl {version(lonely)}\n"


def version(environment: SimpleNamespace) -> str:
    return environment.run("import anomalib_ssl; print(anomalib_ssl.__version__)").stdout.strip()
