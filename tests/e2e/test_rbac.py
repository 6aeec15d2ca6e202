"""Who may what, as kubectl users see it: roles, service account tokens, access reviews, impersonation, client certificates, the audit log."""

import base64
import json
import subprocess

import pytest

from conftest import KUBECTL, TIDEMILL, wait_for


@pytest.fixture(scope="module")
def space(platform):
    for name in ("rbac-a", "rbac-b"):
        platform.kubectl("create", "namespace", name)
    platform.kubectl("-n", "rbac-a", "create", "serviceaccount", "robot")
    platform.kubectl("-n", "rbac-a", "create", "role", "pod-reader", "--verb=get,list,watch", "--resource=pods")
    platform.kubectl("-n", "rbac-a", "create", "rolebinding", "robot-reads", "--role=pod-reader", "--serviceaccount=rbac-a:robot")
    yield platform
    platform.kubectl("delete", "namespace", "rbac-a", "rbac-b", "--wait=false")


def bearer(platform, token, *args):
    """kubectl with nothing but a token."""
    server = f"https://127.0.0.1:{platform.api_port}"
    return subprocess.run([KUBECTL, "--kubeconfig", "/dev/null", "--server", server, "--insecure-skip-tls-verify", "--token", token, *args],
                          capture_output=True, text=True, env=platform.environment(), timeout=60)


def can_i(platform, *args):
    return platform.kubectl("auth", "can-i", *args, check=False).stdout.strip()


def test_a_role_opens_its_namespace_only(space):
    token = space.kubectl("-n", "rbac-a", "create", "token", "robot").stdout.strip()
    assert bearer(space, token, "-n", "rbac-a", "get", "pods").stderr.strip() == "No resources found in rbac-a namespace."
    refused = bearer(space, token, "-n", "rbac-b", "get", "pods")
    assert refused.returncode == 1
    assert refused.stderr.strip() == ('Error from server (Forbidden): pods is forbidden: User "system:serviceaccount:rbac-a:robot" cannot list '
                                      'resource "pods" in API group "" in the namespace "rbac-b"')
    refused = bearer(space, token, "get", "nodes", "node1")
    assert refused.stderr.strip() == ('Error from server (Forbidden): nodes "node1" is forbidden: User "system:serviceaccount:rbac-a:robot" cannot '
                                      'get resource "nodes" in API group "" at the cluster scope')
    assert "You must be logged in" in bearer(space, token[:-4] + "AAAA", "-n", "rbac-a", "get", "pods").stderr
    who = json.loads(bearer(space, token, "auth", "whoami", "-o", "json").stdout)["status"]["userInfo"]
    assert who["username"] == "system:serviceaccount:rbac-a:robot" and who["uid"]
    assert who["groups"] == ["system:serviceaccounts", "system:serviceaccounts:rbac-a", "system:authenticated"]
    assert who["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")


def test_a_token_ends_with_what_it_is_bound_to(space):
    space.kubectl("-n", "rbac-a", "create", "serviceaccount", "brief")
    space.kubectl("-n", "rbac-a", "create", "secret", "generic", "hold")
    token = space.kubectl("-n", "rbac-a", "create", "token", "brief").stdout.strip()
    bound = space.kubectl("-n", "rbac-a", "create", "token", "robot", "--bound-object-kind", "Secret", "--bound-object-name", "hold").stdout.strip()
    foreign = space.kubectl("-n", "rbac-a", "create", "token", "robot", "--audience", "vault").stdout.strip()
    assert bearer(space, token, "auth", "whoami").returncode == 0
    assert bearer(space, bound, "-n", "rbac-a", "get", "pods").returncode == 0
    assert bearer(space, foreign, "auth", "whoami").returncode == 1
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": foreign, "audiences": ["vault"]}}
    answer = json.loads(space.kubectl("create", "--validate=false", "-f", "-", "-o", "json", input=json.dumps(review)).stdout)["status"]
    assert answer["authenticated"] and answer["audiences"] == ["vault"]
    space.kubectl("-n", "rbac-a", "delete", "serviceaccount", "brief")
    space.kubectl("-n", "rbac-a", "delete", "secret", "hold")
    assert bearer(space, token, "auth", "whoami").returncode == 1
    assert bearer(space, bound, "-n", "rbac-a", "get", "pods").returncode == 1
    short = space.kubectl("-n", "rbac-a", "create", "token", "robot", "--duration", "1m", check=False)
    assert "spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes" in short.stderr


@pytest.mark.parametrize("role,yes,no", [
    ("view", ["get pods", "get pods/log", "list deployments.apps", "get namespaces/rbac-b"], ["get secrets", "create pods", "get roles", "list nodes"]),
    ("edit", ["create pods", "get secrets", "patch deployments.apps/scale", "create pods/exec"], ["create roles", "update resourcequotas"]),
    ("admin", ["create roles", "create rolebindings", "delete secrets"], ["update resourcequotas", "create namespaces"]),
])
def test_roles_of_every_cluster(space, role, yes, no):
    name = f"to-{role}"
    space.kubectl("-n", "rbac-b", "create", "rolebinding", name, f"--clusterrole={role}", f"--user=u-{role}")
    wait_for(lambda: can_i(space, "get", "pods", "-n", "rbac-b", f"--as=u-{role}") == "yes", f"the rules of {role}")
    for question in yes:
        assert can_i(space, *question.split(), "-n", "rbac-b", f"--as=u-{role}") == "yes", question
    for question in no:
        assert can_i(space, *question.split(), "-n", "rbac-b", f"--as=u-{role}") == "no", question
    assert can_i(space, "get", "pods", "-n", "rbac-a", f"--as=u-{role}") == "no"


def test_reviews_give_reasons(space):
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
              "spec": {"user": "system:serviceaccount:rbac-a:robot", "resourceAttributes": {"namespace": "rbac-a", "verb": "list", "resource": "pods"}}}
    answer = json.loads(space.kubectl("create", "--validate=false", "-f", "-", "-o", "json", input=json.dumps(review)).stdout)["status"]
    assert answer == {"allowed": True, "reason": 'RBAC: allowed by RoleBinding "robot-reads/rbac-a" of Role "pod-reader" to ServiceAccount '
                                                 '"robot/rbac-a"'}
    listed = space.kubectl("auth", "can-i", "--list", "-n", "rbac-a", "--as=system:serviceaccount:rbac-a:robot").stdout
    assert "[get list watch]" in [line[line.rfind("["):] for line in listed.splitlines() if line.startswith("pods ")]
    assert "selfsubjectreviews.authentication.k8s.io" in listed and "/healthz" in listed


def test_impersonation_needs_the_right(space):
    assert space.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.groups}", "--as=ann", "--as-group=one", "--as-group=two").stdout == \
        '["one","two","system:authenticated"]'
    token = space.kubectl("-n", "rbac-a", "create", "token", "robot").stdout.strip()
    refused = bearer(space, token, "get", "pods", "-n", "rbac-a", "--as=ann")
    assert refused.stderr.strip() == ('Error from server (Forbidden): users "ann" is forbidden: User "system:serviceaccount:rbac-a:robot" cannot '
                                      'impersonate resource "users" in API group "" at the cluster scope')
    missing = space.kubectl("get", "nodes", "--as=ann", check=False).stderr.strip()
    assert missing == ('Error from server (Forbidden): nodes is forbidden: User "ann" cannot list resource "nodes" in API group "" at the cluster '
                       'scope')


def test_nobody_gives_away_what_he_has_not(space):
    space.kubectl("-n", "rbac-b", "create", "rolebinding", "adm", "--clusterrole=admin", "--user=adm")
    wait_for(lambda: can_i(space, "create", "roles", "-n", "rbac-b", "--as=adm") == "yes", "the rules of admin")
    ok = space.kubectl("-n", "rbac-b", "create", "role", "mine", "--verb=get", "--resource=pods", "--as=adm")
    assert ok.stdout.strip() == "role.rbac.authorization.k8s.io/mine created"
    refused = space.kubectl("-n", "rbac-b", "create", "role", "more", "--verb=get,list", "--resource=nodes", "--as=adm", check=False)
    assert refused.stderr.strip() == ('Error from server (Forbidden): roles.rbac.authorization.k8s.io "more" is forbidden: user "adm" '
                                      '(groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n'
                                      '{APIGroups:[""], Resources:["nodes"], Verbs:["get" "list"]}')
    refused = space.kubectl("-n", "rbac-b", "create", "rolebinding", "more", "--clusterrole=cluster-admin", "--user=adm", "--as=adm", check=False)
    assert 'rolebindings.rbac.authorization.k8s.io "more" is forbidden: user "adm"' in refused.stderr
    assert '{APIGroups:["*"], Resources:["*"], Verbs:["*"]}' in refused.stderr
    refused = space.kubectl("-n", "rbac-b", "create", "rolebinding", "more", "--role=none", "--user=adm", "--as=adm", check=False)
    assert 'roles.rbac.authorization.k8s.io "none" not found' in refused.stderr


def test_reconcile_and_words_of_the_kinds(space, tmp_path):
    manifest = tmp_path / "roles.yaml"
    manifest.write_text("apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: rec}\n"
                        "rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]\n---\n"
                        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: rec}\n"
                        "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: rec}\n"
                        "subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: rec}]\n")
    out = space.kubectl("auth", "reconcile", "-f", str(manifest)).stdout
    assert "clusterrole.rbac.authorization.k8s.io/rec reconciled" in out and "clusterrolebinding.rbac.authorization.k8s.io/rec reconciled" in out
    described = space.kubectl("describe", "clusterrole", "rec").stdout
    assert "pods" in described and "[get]" in described
    names = space.kubectl("get", "clusterroles", "-o", "name").stdout.split()
    for name in ("cluster-admin", "admin", "edit", "view", "system:basic-user", "system:node", "system:kube-scheduler",
                 "system:controller:deployment-controller"):
        assert f"clusterrole.rbac.authorization.k8s.io/{name}" in names
    changed = space.kubectl("patch", "clusterrolebinding", "rec", "--type=merge", "-p", '{"roleRef":{"name":"view"}}', check=False)
    assert "cannot change roleRef" in changed.stderr
    space.kubectl("delete", "-f", str(manifest))


def test_what_every_namespace_has(space):
    authority = wait_for(lambda: space.kubectl("-n", "rbac-a", "get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}",
                                               check=False).stdout, "the authority's certificate")
    assert authority.startswith("-----BEGIN CERTIFICATE-----")
    space.kubectl("-n", "rbac-a", "delete", "configmap", "kube-root-ca.crt")
    space.kubectl("-n", "rbac-a", "delete", "serviceaccount", "default")
    wait_for(lambda: space.kubectl("-n", "rbac-a", "get", "configmap/kube-root-ca.crt", "serviceaccount/default", check=False).returncode == 0,
             "both to come back")


def test_others_can_check_tokens(space):
    document = json.loads(space.kubectl("get", "--raw", "/.well-known/openid-configuration").stdout)
    keys = json.loads(space.kubectl("get", "--raw", "/openid/v1/jwks").stdout)["keys"]
    token = space.kubectl("-n", "rbac-a", "create", "token", "robot").stdout.strip()
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    assert header["kid"] in [key["kid"] for key in keys] and header["alg"] in document["id_token_signing_alg_values_supported"]
    assert claims["iss"] == document["issuer"] and claims["sub"] == "system:serviceaccount:rbac-a:robot"
    assert claims["kubernetes.io"]["serviceaccount"]["name"] == "robot"


def key_and_request(folder, name, subject):
    key, request = folder / f"{name}.key", folder / f"{name}.csr"
    subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request,
                    "-subj", subject], check=True, capture_output=True)
    return key, base64.b64encode(request.read_bytes()).decode()


def signing_request(name, request, signer="kubernetes.io/kube-apiserver-client", **more):
    return json.dumps({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
                       "spec": {"request": request, "signerName": signer, "usages": ["client auth"], **more}})


def test_a_signing_request_becomes_a_client(space, tmp_path):
    key, request = key_and_request(tmp_path, "ann", "/O=team-a/CN=ann")
    space.kubectl("create", "-f", "-", input=signing_request("ann", request, expirationSeconds=3600))
    spec = space.get("csr", "ann")["spec"]
    assert spec["username"] == "admin" and "system:masters" in spec["groups"]
    # Conditions of other types may be written with a decision, decisions by nobody else.
    condition = lambda kind: json.dumps({"status": {"conditions": [{"type": kind, "status": "True", "reason": "r"}]}})
    refused = space.kubectl("patch", "csr", "ann", "--subresource=status", "--type=merge", "-p", condition("Approved"), check=False)
    assert 'status.conditions: Forbidden: updates may not add a condition of type "Approved"' in refused.stderr
    space.kubectl("patch", "csr", "ann", "--subresource=approval", "--type=merge", "-p", condition("Seen"))
    space.kubectl("certificate", "approve", "ann")
    assert [each["type"] for each in space.get("csr", "ann")["status"]["conditions"]] == ["Seen", "Approved"]
    encoded = wait_for(lambda: space.kubectl("get", "csr", "ann", "-o", "jsonpath={.status.certificate}").stdout, "the certificate")
    certificate = tmp_path / "ann.crt"
    certificate.write_bytes(base64.b64decode(encoded))
    space.kubectl("-n", "rbac-a", "create", "rolebinding", "team-a", "--role=pod-reader", "--group=team-a")
    client = [KUBECTL, "--kubeconfig", "/dev/null", "--server", f"https://127.0.0.1:{space.api_port}", "--insecure-skip-tls-verify",
              "--client-key", str(key), "--client-certificate", str(certificate)]
    who = subprocess.run([*client, "auth", "whoami", "-o", "jsonpath={.status.userInfo}"], capture_output=True, text=True, env=space.environment())
    assert json.loads(who.stdout) == {"username": "ann", "groups": ["team-a", "system:authenticated"]}
    assert subprocess.run([*client, "-n", "rbac-a", "get", "pods"], capture_output=True, env=space.environment()).returncode == 0
    assert subprocess.run([*client, "-n", "rbac-b", "get", "pods"], capture_output=True, env=space.environment()).returncode == 1


def test_signing_requests_that_are_refused(space, tmp_path):
    _, masters = key_and_request(tmp_path, "root", "/O=system:masters/CN=root")
    _, good = key_and_request(tmp_path, "bob", "/CN=bob")

    def refused(*args, **more):
        return space.kubectl("create", "-f", "-", input=signing_request(*args, **more), check=False).stderr

    assert 'use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed' in refused("no", masters)
    assert "the legacy signerName is not allowed via this API version" in refused("no", good, "kubernetes.io/legacy-unknown")
    assert "PEM block type must be CERTIFICATE REQUEST" in refused("no", base64.b64encode(b"hello").decode())
    assert "may not specify a duration less than 600 seconds" in refused("no", good, expirationSeconds=60)
    space.kubectl("create", "-f", "-", input=signing_request("bob", good))
    words = space.kubectl("certificate", "approve", "bob", "--as=ann", check=False).stderr
    assert 'User "ann" cannot get resource "certificatesigningrequests"' in words
    space.kubectl("certificate", "deny", "bob")
    again = space.kubectl("certificate", "approve", "bob", check=False)
    assert "already Denied" in again.stderr
    space.kubectl("create", "-f", "-", input=signing_request("node", good, "kubernetes.io/kubelet-serving"))
    space.kubectl("certificate", "approve", "node")
    failed = wait_for(lambda: [c for c in space.get("csr", "node")["status"].get("conditions", []) if c["type"] == "Failed"], "its failure")
    assert failed[0]["reason"] == "SignerValidationFailure"


def test_secrets_with_tokens(space):
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
              "metadata": {"name": "lasting", "namespace": "rbac-a", "annotations": {"kubernetes.io/service-account.name": "robot"}}}
    space.kubectl("create", "-f", "-", input=json.dumps(secret))
    encoded = wait_for(lambda: space.kubectl("-n", "rbac-a", "get", "secret", "lasting", "-o", "jsonpath={.data.token}").stdout, "the token")
    token = base64.b64decode(encoded).decode()
    assert bearer(space, token, "-n", "rbac-a", "get", "pods").returncode == 0
    space.kubectl("-n", "rbac-a", "delete", "secret", "lasting")
    assert bearer(space, token, "-n", "rbac-a", "get", "pods").returncode == 1


def with_config(platform, text, folder, *args):
    path = folder / "other.kubeconfig"
    path.write_text(text)
    return subprocess.run([KUBECTL, "--kubeconfig", str(path), *args], capture_output=True, text=True, env=platform.environment(), timeout=60)


def test_a_kubeconfig_for_somebody_else(space, tmp_path):
    made = space.tidemill("kubeconfig", "dora", "--group", "team-d", "--expires", "1").stdout
    who = with_config(space, made, tmp_path, "auth", "whoami", "-o", "jsonpath={.status.userInfo}")
    assert json.loads(who.stdout) == {"username": "dora", "groups": ["team-d", "system:authenticated"]}
    machine = space.tidemill("kubeconfig", "--service-account", "rbac-a/robot").stdout
    assert with_config(space, machine, tmp_path, "get", "pods").stderr.strip() == "No resources found in rbac-a namespace."
    mine = [t for t in json.loads(space.tidemill("token", "list", "-o", "json").stdout)["tokens"] if t["user"] == "dora"]
    assert mine[0]["groups"] == ["team-d"] and "token" not in mine[0]
    space.tidemill("token", "revoke", mine[0]["name"])
    assert with_config(space, made, tmp_path, "auth", "whoami").returncode == 1
    # Whoever may reach this door gets no further than he may impersonate.
    space.kubectl("create", "clusterrole", "doorman", "--verb=*", "--non-resource-url=/tidemill/*")
    space.kubectl("create", "clusterrolebinding", "doorman", "--clusterrole=doorman", "--user=eve")
    eve = space.tidemill("kubeconfig", "eve", "--expires", "1").stdout
    body = tmp_path / "token.json"
    body.write_text('{"user":"root","groups":["system:masters"]}')
    refused = with_config(space, eve, tmp_path, "create", "--raw", "/tidemill/tokens", "-f", str(body))
    assert 'User "eve" cannot impersonate resource "users"' in refused.stderr
    space.kubectl("delete", "clusterrole/doorman", "clusterrolebinding/doorman")


def test_the_audit_log_says_who_did_what(space):
    space.kubectl("-n", "rbac-b", "create", "configmap", "seen", "--as=ann", "--as-group=system:masters")
    space.kubectl("-n", "rbac-b", "delete", "configmap", "seen", "--as=bob", check=False)
    token = space.kubectl("-n", "rbac-a", "create", "token", "robot").stdout.strip()

    def events(*args):
        return [json.loads(line) for line in space.tidemill("audit", "-o", "json", *args).stdout.splitlines()]

    made, = wait_for(lambda: events("--namespace", "rbac-b", "--resource", "configmaps", "--verb", "create", "--by", "ann"), "the event")
    assert made["user"]["username"] == "admin" and made["impersonatedUser"]["username"] == "ann"
    assert made["objectRef"]["name"] == "seen" and made["objectRef"]["uid"] and made["responseStatus"]["code"] == 201
    assert made["sourceIPs"] == ["127.0.0.1"] and made["userAgent"].startswith("kubectl/") and made["level"] == "Metadata"
    refused, = wait_for(lambda: events("--by", "bob", "--verb", "delete"), "the refusal")
    assert refused["responseStatus"]["code"] == 403 and refused["annotations"]["authorization.k8s.io/decision"] == "forbid"
    issued = wait_for(lambda: [e for e in events("--namespace", "rbac-a") if e["objectRef"].get("subresource") == "token"], "the token's event")
    assert issued[-1]["objectRef"]["name"] == "robot"
    lavish = [word for i in range(40) for word in ("-H", f"Impersonate-Extra-K{i}: {'x' * 1000}")]
    subprocess.run(["curl", "-sS", "--unix-socket", str(space.run_dir / "api.sock"), "-H", "Impersonate-User: ann", "-H", "Impersonate-Group: system:masters", *lavish,
                    "-H", "Content-Type: application/json", "-d", '{"metadata":{"name":"hidden"}}', "http://localhost/api/v1/namespaces/rbac-b/configmaps"],
                   check=True, capture_output=True)
    brief, = wait_for(lambda: [e for e in events("--by", "ann", "--verb", "create") if e["objectRef"].get("name") == "hidden"], "the event that would be too long")
    assert brief["user"]["username"] == "admin" and brief["responseStatus"]["code"] == 201 and brief["annotations"]["tidemill.dev/brief"] == "true"
    folder = space.state / "core/audit"
    assert all(token.split(".")[2] not in path.read_text() for path in folder.iterdir())
    assert space.tidemill("audit", "--verify").stdout.strip().endswith("whole")
    text = space.tidemill("audit", "--by", "ann").stdout
    assert "admin as ann" in text and "rbac-b/configmaps/seen" in text
    follower = subprocess.Popen([str(TIDEMILL), "audit", "-f", "-o", "json", "--tail", "0", "--by", "cyd", "--run", str(space.run_dir)],
                                stdout=subprocess.PIPE, text=True)
    try:
        space.kubectl("-n", "rbac-b", "create", "configmap", "live", "--as=cyd", check=False)
        assert json.loads(follower.stdout.readline())["responseStatus"]["code"] == 403
    finally:
        follower.kill()
        follower.wait()
