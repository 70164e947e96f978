"""Maven's surefire in the jail, with the plugins and JUnits of Debian's own local repository."""

import base64
import os
import shutil
from pathlib import Path

import pytest

from finetune.contracts.errors import InputError, MachineError
from finetune.execution.jail import Limits
from finetune.execution.runners.java import class_of, entries_of, local_repository
from finetune.execution.runners.registry import RUNNERS

DEBIAN = Path("/usr/share/maven-repo")
PROVIDER = DEBIAN / "org/apache/maven/surefire/surefire-junit-platform"
needs_maven = pytest.mark.skipif(
    shutil.which("mvn") is None or not PROVIDER.is_dir(),
    reason="Maven or its local repository is not installed (Debian: maven-debian-helper, libsurefire-java)",
)

# Debian's surefire waits ten seconds for the end of a process of its own
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>com.example</groupId><artifactId>shop</artifactId><version>1</version>
  <properties>
    <maven.compiler.source>11</maven.compiler.source><maven.compiler.target>11</maven.compiler.target>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
    <forkCount>{forks}</forkCount>
  </properties>
  <dependencies><dependency>{junit}<scope>test</scope></dependency></dependencies>
</project>
"""
JUNIT4 = "<groupId>junit</groupId><artifactId>junit</artifactId><version>4.x</version>"
JUNIT5 = "<groupId>org.junit.jupiter</groupId><artifactId>junit-jupiter</artifactId><version>debian</version>"
CODE = "package shop;\n\npublic class Shop {\n    public static String same(String value) { %s }\n}\n"
CODE_PATH, TEST_PATH = "src/main/java/shop/Shop.java", "src/test/java/shop/ShopTest.java"
TESTS4 = """package shop;

import org.junit.*;

public class ShopTest {
    @Test public void plain() { System.out.println("x"); Assert.assertEquals("a", Shop.same("a")); }
    @Test public void bad() { Assert.assertEquals("b", Shop.same("a")); }
    @Ignore @Test public void leftOut() { }
}
"""
TESTS5 = """package shop;

import static org.junit.jupiter.api.Assertions.*;
import org.junit.jupiter.api.*;

class ShopTest {
    @Test void plain() { assertEquals("a", Shop.same("a")); }
    @Test void bad() { assertEquals("b", Shop.same("a")); }
    @Disabled @Test void leftOut() { }
    @Nested class Inner { @Test void inner() { assertEquals("x", Shop.same("x")); } }
}
"""
GREEN = ["shop.ShopTest::plain"]


def repository(folder, *, junit, tests, forks):
    files = {"pom.xml": POM.format(junit=junit, forks=forks), CODE_PATH: CODE % "return value;", TEST_PATH: tests}
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    stale = folder / "target/surefire-reports/TEST-shop.OldTest.xml"
    stale.parent.mkdir(parents=True)
    stale.write_text('<testsuite><testcase name="old" classname="shop.OldTest"/></testsuite>')
    return folder


@pytest.fixture
def run(jail, tmp_path, monkeypatch):
    monkeypatch.setenv("MAVEN_OPTS", f"-Xmx1g -Dmaven.repo.local={DEBIAN}")
    runner = RUNNERS["java"]
    toolchain = runner.toolchain(None)

    def run(tests=(), overlay=None, *, junit=JUNIT4, text=TESTS4, forks=0):
        folder = tmp_path / "repository"
        if not folder.exists():
            repository(folder, junit=junit, tests=text, forks=forks)
        limits = Limits(timeout_seconds=120, memory_bytes=4 << 30)
        return runner.run(jail, toolchain, tree=folder, overlay=overlay or {}, tests=tests, limits=limits)

    return run


EACH = {**dict.fromkeys(GREEN, "passed"), "shop.ShopTest::bad": "failed", "shop.ShopTest::leftOut": "skipped"}


@needs_maven
def test_each_test_of_junit_4_is_told_by_its_class_and_name(run):
    done = run()
    assert done.broken == "", done.log
    assert dict(done.outcomes) == EACH


@needs_maven
def test_each_test_of_junit_5_is_told_by_its_class_and_name(run):
    done = run(junit=JUNIT5, text=TESTS5)
    assert done.broken == "", done.log
    assert dict(done.outcomes) == {**EACH, "shop.ShopTest$Inner::inner": "passed"}


@needs_maven
@pytest.mark.slow
def test_tests_in_a_process_of_their_own_are_told(run):
    asked = [*GREEN, "shop.ShopTest::gone", "shop.GoneTest::plain"]
    done = run(asked, forks=1)
    assert dict(done.outcomes) == {**dict.fromkeys(asked, "error"), **dict.fromkeys(GREEN, "passed")}


@needs_maven
@pytest.mark.parametrize("body", ["return value +;", 'return "";', "System.exit(0); return value;"])
def test_what_the_code_does_wrong_is_its_own_fault(run, body):
    done = run(GREEN, {CODE_PATH: (CODE % body).encode()})
    assert done.broken == "", done.log
    assert set(done.outcomes) == set(GREEN)
    assert not done.passed(GREEN)


@needs_maven
def test_a_test_tool_that_does_not_start_is_broken(jail, tmp_path, monkeypatch):
    monkeypatch.setenv("MAVEN_OPTS", f"-Dmaven.repo.local={DEBIAN}")
    runner = RUNNERS["java"]
    toolchain = runner.toolchain(None).model_copy(update={"program": "/usr/bin/no-mvn"})
    done = runner.run(jail, toolchain, tree=tmp_path, overlay={}, tests=GREEN, limits=Limits())
    assert done.broken and not done.outcomes


@needs_maven
def test_a_jdk_that_does_not_start_is_named(monkeypatch):
    monkeypatch.setenv("MAVEN_OPTS", f"-Dmaven.repo.local={DEBIAN}")
    monkeypatch.setenv("JAVA_HOME", "/usr/share/no-jdk")
    with pytest.raises(MachineError, match="does not run in the jail"):
        RUNNERS["java"].toolchain(None)


@needs_maven
@pytest.mark.skipif(os.getuid() != 0, reason="only root leaves its own user in the jail")
def test_a_local_repository_that_is_closed_to_others_is_named(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir(mode=0o700)
    monkeypatch.setenv("MAVEN_OPTS", f"-Dmaven.repo.local={tmp_path / 'closed'}")
    with pytest.raises(MachineError, match="chmod"):
        RUNNERS["java"].toolchain(None)


def test_a_program_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no-mvn"):
        RUNNERS["java"].toolchain(tmp_path / "no-mvn")


def test_the_local_repository_is_the_one_that_maven_takes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MAVEN_OPTS", raising=False)
    assert local_repository() == tmp_path / ".m2/repository"
    (tmp_path / ".m2").mkdir()
    (tmp_path / ".m2/settings.xml").write_text("<settings><localRepository>/srv/m2</localRepository></settings>")
    assert local_repository() == Path("/srv/m2")
    monkeypatch.setenv("MAVEN_OPTS", "-Xmx1g -Dmaven.repo.local=/srv/other")
    assert local_repository() == Path("/srv/other")


def test_the_class_of_a_test_is_that_of_its_file():
    assert class_of("core/shop.ShopTest$Inner::plain[0]") == "shop.ShopTest"
    assert class_of("shop.ShopTest") == "shop.ShopTest"


def _told(*reports):
    encode = [(base64.b64encode(file.encode()).decode(), base64.b64encode(xml).decode()) for file, xml in reports]
    lines = [{"started": "maven"}, *({"file": file, "xml": xml} for file, xml in encode), {"finished": "0"}]
    return {entry["id"]: entry["outcome"] for entry in entries_of(lines) if "outcome" in entry}


ROOT, CORE = "./target/surefire-reports/TEST-a.A.xml", "./core/target/surefire-reports/TEST-a.A.xml"


def test_a_module_is_part_of_a_tests_name_and_the_worst_end_counts():
    passed = b'<testsuite><testcase name="m" classname="a.A"/></testsuite>'
    failed = b'<testsuite><testcase name="m" classname="a.A"><failure/></testcase></testsuite>'
    assert _told((ROOT, passed), (CORE, passed), (CORE, failed)) == {"a.A::m": "passed", "core/a.A::m": "failed"}


def test_a_failed_set_up_is_an_error_of_the_class():
    assert _told((ROOT, b'<testsuite><testcase name="" classname="a.A"><error/></testcase></testsuite>')) == {
        "a.A": "error"
    }


def test_what_a_failed_test_says_of_markup_is_read_as_text():
    said = b'<testsuite><testcase name="m" classname="a.A"><failure><![CDATA[<!DOC]]></failure></testcase></testsuite>'
    assert _told((ROOT, said)) == {"a.A::m": "failed"}


def test_a_report_that_declares_entities_or_is_cut_off_tells_nothing():
    declares = b'<!DOCTYPE t [<!ENTITY a "b">]><testsuite><testcase name="m" classname="a.A"/></testsuite>'
    assert _told((ROOT, declares)) == {}
    assert _told((ROOT, b'<testsuite><testcase name="m"')) == {}
