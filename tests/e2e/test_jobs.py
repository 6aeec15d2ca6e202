"""Jobs and scheduling with real pods: indexes, failure policy, cron jobs, room and who gives way for whom, taints, a lost node."""

import os
import signal
import textwrap

import pytest

from conftest import wait_for

TEMPLATE = "restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [{name: c, image: 'IMAGE', command: [sh, -c, 'COMMAND']RESOURCES}]"


def apply(platform, text):
    platform.kubectl("apply", "-f", "-", input=textwrap.dedent(text))


def pod_spec(image, command, resources=""):
    return "{" + TEMPLATE.replace("IMAGE", image).replace("COMMAND", command).replace("RESOURCES", resources) + "}"


def job(platform, name, image, command, spec="", check=True):
    apply(platform, f"""
        apiVersion: batch/v1
        kind: Job
        metadata: {{name: {name}}}
        spec: {{{spec} template: {{spec: {pod_spec(image, command)}}}}}
        """)


def conditions(platform, kind, name):
    return {each["type"]: each for each in platform.get(kind, name)["status"].get("conditions", []) if each["status"] == "True"}


def scheduled(platform, name):
    """The condition PodScheduled once it is there."""
    def find():
        found = [each for each in platform.get("pod", name)["status"].get("conditions", []) if each["type"] == "PodScheduled"]
        return found and found[0]
    return wait_for(find, f"{name} to be looked at by the scheduler")


def running_pod(platform, name, image, spec="", resources=""):
    apply(platform, f"""
        apiVersion: v1
        kind: Pod
        metadata: {{name: {name}, labels: {{test: jobs}}}}
        spec: {{{spec} {pod_spec(image, 'exec sleep 1000', resources)[1:]}
        """)


@pytest.fixture(autouse=True)
def cleaned(platform):
    yield
    platform.kubectl("delete", "job,cronjob,pod", "--all", "--wait=true", "--timeout=60s")


def test_indexes_reach_their_pods_and_are_completed(platform, tiny_image):
    job(platform, "indexed", tiny_image, "echo index $JOB_COMPLETION_INDEX on $(hostname)", "completionMode: Indexed, completions: 3, parallelism: 3,")
    platform.kubectl("wait", "--for=condition=complete", "job/indexed", "--timeout=60s")
    status = platform.get("job", "indexed")["status"]
    assert (status["succeeded"], status["completedIndexes"], status["uncountedTerminatedPods"]) == (3, "0-2", {})
    assert [each["type"] for each in status["conditions"]] == ["SuccessCriteriaMet", "Complete"]
    said = platform.kubectl("logs", "-l", "job-name=indexed", "--tail=-1").stdout.split("\n")
    assert sorted(filter(None, said)) == [f"index {i} on indexed-{i}" for i in range(3)]
    pods = platform.get("pod", "-l", "batch.kubernetes.io/job-name=indexed")["items"]
    assert all(not each["metadata"].get("finalizers") for each in pods)
    described = platform.kubectl("describe", "job", "indexed").stdout
    assert "Completed Indexes:  0-2" in described and "Completed  " in described and "Job completed" in described


def test_a_failure_policy_ends_the_job(platform, tiny_image):
    job(platform, "strict", tiny_image, "exit 42", "backoffLimit: 6, podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]},")
    platform.kubectl("wait", "--for=condition=failed", "job/strict", "--timeout=60s")
    failed = conditions(platform, "job", "strict")["Failed"]
    assert failed["reason"] == "PodFailurePolicy"
    assert "failed with exit code 42 matching FailJob rule at index 0" in failed["message"]
    assert platform.get("job", "strict")["status"]["failed"] == 1


def test_a_deadline_takes_running_pods_away(platform, tiny_image):
    job(platform, "late", tiny_image, "sleep 1000", "activeDeadlineSeconds: 1, podReplacementPolicy: Failed,")
    platform.kubectl("wait", "--for=condition=failed", "job/late", "--timeout=60s")
    assert conditions(platform, "job", "late")["Failed"]["reason"] == "DeadlineExceeded"
    status = platform.get("job", "late")["status"]
    assert (status.get("active", 0), status["failed"], status["terminating"]) == (0, 1, 0)
    wait_for(lambda: not platform.get("pod", "-l", "job-name=late")["items"], "its pod to go")


def test_cron_jobs_lend_their_template(platform, tiny_image):
    apply(platform, f"""
        apiVersion: batch/v1
        kind: CronJob
        metadata: {{name: nightly}}
        spec:
          schedule: "30 2 * * mon-fri"
          timeZone: Europe/Berlin
          jobTemplate: {{spec: {{template: {{spec: {pod_spec(tiny_image, 'echo done')}}}}}}}
        """)
    platform.kubectl("create", "job", "now", "--from=cronjob/nightly")
    platform.kubectl("wait", "--for=condition=complete", "job/now", "--timeout=60s")
    assert platform.kubectl("logs", "job/now").stdout == "done\n"
    wait_for(lambda: platform.get("cronjob", "nightly")["status"].get("lastSuccessfulTime"), "the success to be noted")
    apply(platform, f"""
        apiVersion: batch/v1
        kind: CronJob
        metadata: {{name: often}}
        spec: {{schedule: "@every 1s", concurrencyPolicy: Forbid, jobTemplate: {{spec: {{template: {{spec: {pod_spec(tiny_image, 'true')}}}}}}}}}
        """)
    wait_for(lambda: platform.get("cronjob", "often")["status"].get("lastSuccessfulTime"), "a job of it to be made and to succeed")
    platform.kubectl("delete", "cronjob", "nightly", "often", "--wait=false")
    wait_for(lambda: not platform.get("job")["items"], "its jobs to go")


def test_room_is_counted_and_given_back(platform, tiny_image):
    cpus = int(platform.get("node", "node1")["status"]["allocatable"]["cpu"])
    large = f", resources: {{requests: {{cpu: {cpus * 1000 - 400}m}}}}"
    running_pod(platform, "large", tiny_image, resources=large)
    platform.kubectl("wait", "--for=condition=ready", "pod/large", "--timeout=60s")
    running_pod(platform, "second", tiny_image, resources=large)
    condition = scheduled(platform, "second")
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    words = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    assert condition["message"] == words
    assert words in platform.kubectl("describe", "pod", "second").stdout
    platform.kubectl("delete", "pod", "large", "--wait=false")
    platform.kubectl("wait", "--for=condition=ready", "pod/second", "--timeout=60s")
    apply(platform, """
        apiVersion: scheduling.k8s.io/v1
        kind: PriorityClass
        metadata: {name: urgent}
        value: 1000
        """)
    running_pod(platform, "urgent", tiny_image, spec="priorityClassName: urgent,", resources=large)
    platform.kubectl("wait", "--for=condition=ready", "pod/urgent", "--timeout=60s")
    gone = platform.kubectl("get", "pod", "second", check=False)
    assert gone.returncode == 1 and "NotFound" in gone.stderr
    events = platform.get("events", "--field-selector", "involvedObject.name=second,reason=Preempted")["items"]
    assert len(events) == 1 and events[0]["message"].endswith("on node node1")
    platform.kubectl("delete", "priorityclass", "urgent")


def test_taints_keep_pods_away_and_drive_them_out(platform, tiny_image):
    running_pod(platform, "stays", tiny_image, spec="tolerations: [{key: maintenance, operator: Exists}],")
    running_pod(platform, "leaves", tiny_image)
    running_pod(platform, "lingers", tiny_image, spec="tolerations: [{key: maintenance, operator: Exists, effect: NoExecute, tolerationSeconds: 1}],")
    platform.kubectl("wait", "--for=condition=ready", "pod", "-l", "test=jobs", "--timeout=60s")
    platform.kubectl("taint", "node", "node1", "maintenance=now:NoExecute")
    wait_for(lambda: [each["metadata"]["name"] for each in platform.get("pod", "-l", "test=jobs")["items"]] == ["stays"], "the others to go")
    events = platform.get("events", "--field-selector", "reason=TaintManagerEviction")["items"]
    assert {each["message"] for each in events} >= {"Marking for deletion Pod default/leaves"}
    running_pod(platform, "late", tiny_image)
    assert scheduled(platform, "late")["message"].startswith("0/1 nodes are available: 1 node(s) had untolerated taint {maintenance: now}.")
    platform.kubectl("taint", "node", "node1", "maintenance-")
    platform.kubectl("wait", "--for=condition=ready", "pod/late", "--timeout=60s")
    platform.kubectl("cordon", "node1")
    assert "node.kubernetes.io/unschedulable:NoSchedule" in platform.kubectl("describe", "node", "node1").stdout
    running_pod(platform, "cordoned", tiny_image)
    assert scheduled(platform, "cordoned")["message"].startswith("0/1 nodes are available: 1 node(s) were unschedulable.")
    platform.kubectl("delete", "pod", "cordoned")
    drained = platform.kubectl("drain", "node1", "--force", "--ignore-daemonsets", "--timeout=60s").stdout
    assert "pod/late evicted" in drained and "node/node1 drained" in drained
    platform.kubectl("uncordon", "node1")
    assert not platform.get("node", "node1")["spec"].get("taints")


def test_a_node_that_is_gone_is_unknown_until_it_comes_back(platform, tiny_image):
    running_pod(platform, "orphan", tiny_image)
    platform.kubectl("wait", "--for=condition=ready", "pod/orphan", "--timeout=60s")
    pids = platform.pids()
    os.kill(pids["supervisor"], signal.SIGSTOP)  # which would start it again at once
    try:
        os.kill(pids["node"], signal.SIGKILL)
        platform.kubectl("wait", "--for=condition=Ready=Unknown", "node/node1", "--timeout=60s")
        keys = [(each["key"], each["effect"]) for each in platform.get("node", "node1")["spec"]["taints"]]
        assert keys == [("node.kubernetes.io/unreachable", "NoSchedule")]  # it is the only one: nobody is driven out
        platform.kubectl("wait", "--for=condition=Ready=False", "pod/orphan", "--timeout=60s")
    finally:
        os.kill(pids["supervisor"], signal.SIGCONT)
    platform.kubectl("wait", "--for=condition=Ready", "node/node1", "--timeout=60s")
    wait_for(lambda: not platform.get("node", "node1")["spec"].get("taints"), "the taints to go")
    platform.kubectl("wait", "--for=condition=ready", "pod/orphan", "--timeout=60s")
