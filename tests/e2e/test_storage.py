"""Persistent volumes: data outlives pods and processes, and goes when it shall."""

import json
import os
import signal
import textwrap

from conftest import wait_for


def apply(platform, text):
    platform.kubectl("apply", "-f", "-", input=textwrap.dedent(text))


def pod(name, image, command, claim, extra=""):
    return f"""
        apiVersion: v1
        kind: Pod
        metadata: {{name: {name}}}
        spec:
          restartPolicy: Never
          terminationGracePeriodSeconds: 0
          {extra}
          containers:
            - name: c
              image: {image}
              command: [sh, -c, '{command}']
              volumeMounts: [{{name: v, mountPath: /data}}]
          volumes:
            - name: v
              persistentVolumeClaim: {{claimName: {claim}}}
        """


def claim(name, more=""):
    return f"""
        apiVersion: v1
        kind: PersistentVolumeClaim
        metadata: {{name: {name}}}
        spec:
          accessModes: [ReadWriteOnce]
          resources: {{requests: {{storage: 64Mi}}}}
          {more}
        """


def phase(platform, kind, name):
    result = platform.kubectl("get", kind, name, "-o", "jsonpath={.status.phase}", check=False)
    return result.stdout if result.returncode == 0 else None


def output(platform, name):
    """What a pod that ends says."""
    wait_for(lambda: phase(platform, "pod", name) in ("Succeeded", "Failed"), f"pod {name} to end")
    return platform.kubectl("logs", name).stdout.strip()


def test_a_volume_is_made_for_its_first_pod_and_goes_with_its_claim(platform, tiny_image):
    classes = platform.get("storageclass")["items"]
    assert [each["metadata"]["name"] for each in classes] == ["local-path"]
    assert classes[0]["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    apply(platform, claim("data"))
    assert phase(platform, "pvc", "data") == "Pending"
    apply(platform, pod("writer", tiny_image, "echo kept > /data/file; chmod 600 /data/file; sync", "data"))
    output(platform, "writer")
    assert phase(platform, "pod", "writer") == "Succeeded"
    bound = platform.get("pvc", "data")
    volume = bound["spec"]["volumeName"]
    assert bound["status"]["phase"] == "Bound" and bound["status"]["capacity"] == {"storage": "64Mi"}
    assert volume == "pvc-" + bound["metadata"]["uid"]
    folder = platform.state / "volumes" / volume
    assert (folder / "file").read_text() == "kept\n"
    assert (folder.stat().st_mode & 0o777, folder.parent.stat().st_mode & 0o777) == (0o777, 0o700)
    platform.kubectl("delete", "pod", "writer")
    apply(platform, pod("reader", tiny_image, "cat /data/file", "data"))
    assert output(platform, "reader") == "kept"
    described = platform.kubectl("describe", "pv", volume).stdout
    assert "LocalVolume" in described and str(folder) in described and "Bound" in described
    platform.kubectl("delete", "pod", "reader")
    platform.kubectl("delete", "pvc", "data", "--wait=false")
    wait_for(lambda: phase(platform, "pv", volume) is None, "the volume to go")
    assert not folder.exists()


def test_a_running_pod_keeps_its_volume_while_the_node_restarts(platform, tiny_image):
    apply(platform, claim("live"))
    apply(platform, pod("worker", tiny_image, "while true; do date >> /data/log; sleep 0.1; done", "live"))
    wait_for(lambda: phase(platform, "pod", "worker") == "Running", "the pod to run")
    volume = platform.get("pvc", "live")["spec"]["volumeName"]
    log = platform.state / "volumes" / volume / "log"
    wait_for(lambda: log.exists() and log.stat().st_size, "the first line")
    before = platform.pids()["node"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: platform.pids()["node"] != before, "another node process")
    size = log.stat().st_size
    wait_for(lambda: log.stat().st_size > size, "more lines")
    platform.kubectl("delete", "pod", "worker", "--grace-period=0", "--force")
    platform.kubectl("delete", "pvc", "live", "--wait=false")
    wait_for(lambda: phase(platform, "pv", volume) is None, "the volume to go")
    assert not log.parent.exists()


def test_retained_data_stays(platform, tiny_image):
    apply(platform, """
        apiVersion: storage.k8s.io/v1
        kind: StorageClass
        metadata: {name: kept}
        provisioner: tidemill.dev/local-path
        reclaimPolicy: Retain
        volumeBindingMode: Immediate
        """)
    apply(platform, claim("kept", "storageClassName: kept"))
    wait_for(lambda: phase(platform, "pvc", "kept") == "Bound", "the claim to be bound without a pod")
    apply(platform, pod("once", tiny_image, "echo 1 > /data/x", "kept"))
    output(platform, "once")
    volume = platform.get("pvc", "kept")["spec"]["volumeName"]
    platform.kubectl("delete", "pod", "once")
    platform.kubectl("delete", "pvc", "kept", "--wait=false")
    wait_for(lambda: phase(platform, "pv", volume) == "Released", "the volume to be released")
    platform.kubectl("delete", "pv", volume, "--wait=false")
    wait_for(lambda: phase(platform, "pv", volume) is None, "the volume to go")
    assert (platform.state / "volumes" / volume / "x").read_text() == "1\n"
    platform.kubectl("delete", "sc", "kept")


def test_a_group_gets_the_volume_and_read_only_is_that(platform, tiny_image):
    folder = platform.dir / "static"
    folder.mkdir(mode=0o700)
    (folder / "old").write_text("old")
    (folder / "old").chmod(0o600)
    (folder / "sub").mkdir(mode=0o700)
    (folder / "sub" / "deep").write_text("deep")
    apply(platform, f"""
        apiVersion: v1
        kind: PersistentVolume
        metadata: {{name: static}}
        spec:
          accessModes: [ReadWriteOnce]
          capacity: {{storage: 1Gi}}
          storageClassName: ""
          local: {{path: {folder}}}
          nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [node1]}}]}}]}}}}
        """)
    apply(platform, claim("static", 'storageClassName: ""\n          volumeName: static'))
    apply(platform, pod("member", tiny_image, "id -G; cat /data/old /data/sub/deep; echo new > /data/new; stat -c %g /data/new", "static",
                        "securityContext: {runAsUser: 1234, runAsGroup: 1234, fsGroup: 4321}"))
    said = output(platform, "member").split("\n")
    assert "4321" in said[0].split() and said[1] == "olddeep4321", said
    assert folder.stat().st_gid == 4321 and folder.stat().st_mode & 0o7777 == 0o2770
    read_only = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "looker"}, "spec": {
        "restartPolicy": "Never", "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "static", "readOnly": True}}],
        "containers": [{"name": "c", "image": tiny_image, "command": ["sh", "-c", "cat /data; echo x > /data/x || echo refused"],
                        "volumeMounts": [{"name": "v", "mountPath": "/data", "subPath": "sub/deep"}]}]}}
    platform.kubectl("apply", "-f", "-", input=json.dumps(read_only))
    assert output(platform, "looker").startswith("deep") and "refused" in output(platform, "looker")
    platform.kubectl("delete", "pod", "member", "looker")
    platform.kubectl("delete", "pvc/static", "pv/static", "--wait=false")
    wait_for(lambda: phase(platform, "pv", "static") is None, "the volume to go")
    assert (folder / "new").exists()
