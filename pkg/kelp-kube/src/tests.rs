//! Documents in, types out.

use std::time::Duration;

use crate::*;

fn read(text: &str) -> Result<Documents, Error> {
    let stream = Stream { name: "", text };
    parse(&[stream], &Sources::default())
}

/// A pod of one container with these fields more, each indented as fields of the container or of the spec.
fn pod(spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  labels: {{app: web}}\nspec:\n{spec}  containers:\n  - \
         name: main\n    image: localhost/x:1\n{container}"
    )
}

fn container(fields: &str) -> Container {
    let mut documents = read(&pod("", fields)).unwrap();
    documents.pods.remove(0).containers.remove(0)
}

const DATA: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata:\n  COLOUR: green\n  motd: |\n    \
                    hello\n    there\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\ndata:\n  word: \
                    c2VzYW1l\nstringData:\n  other: open\n---\n";

const CLAIM: &str = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n---\n";

#[test]
fn a_pod_is_read_with_what_it_does_not_say() {
    let documents = read(&pod("", "")).unwrap();
    let [pod] = &*documents.pods else {
        panic!("one pod");
    };
    assert_eq!(pod.metadata.name, "web");
    assert_eq!(pod.restart, Restart::Always);
    assert!(!pod.host_network && !pod.share_processes);
    let container = &pod.containers[0];
    assert_eq!(
        (container.name.as_str(), container.pull),
        ("main", PullPolicy::Missing)
    );
    assert_eq!((&container.command, &container.args), (&None, &None));
}

#[test]
fn policies_follow_from_the_image_where_nothing_is_said() {
    for (image, policy) in [
        ("busybox", PullPolicy::Newer),
        ("busybox:latest", PullPolicy::Newer),
        ("busybox:1.36", PullPolicy::Missing),
        ("localhost:5000/busybox", PullPolicy::Newer),
        ("localhost/busybox", PullPolicy::Missing),
        ("localhost:5000/busybox:1", PullPolicy::Missing),
        ("busybox@sha256:00", PullPolicy::Missing),
    ] {
        assert_eq!(PullPolicy::usual(image), policy, "{image}");
    }
}

#[test]
fn workloads_are_pods_of_their_template() {
    let template = "  template:\n    metadata: {labels: {app: x}}\n    spec:\n      containers: [{name: c, image: i:1}]\n";
    for (head, spec, restart) in [
        (
            "apiVersion: apps/v1\nkind: Deployment",
            "  replicas: 1\n  selector: {matchLabels: {app: x}}\n",
            Restart::Always,
        ),
        ("apiVersion: apps/v1\nkind: DaemonSet", "", Restart::Always),
        (
            "apiVersion: batch/v1\nkind: Job",
            "  backoffLimit: 4\n",
            Restart::OnFailure(Some(4)),
        ),
    ] {
        let text = format!("{head}\nmetadata: {{name: web}}\nspec:\n{spec}{template}");
        let documents = read(&text).unwrap();
        let pod = &documents.pods[0];
        assert_eq!(pod.metadata.name, "web-pod");
        assert_eq!(pod.metadata.labels["app"], "x");
        assert_eq!(pod.restart, restart);
    }
}

#[test]
fn variables_come_from_where_they_are_said_to() {
    let fields = "    envFrom:\n    - configMapRef: {name: conf}\n      prefix: C_\n    - secretRef: {name: nosuch, optional: true}\n    env:\n    \
                  - {name: A, value: 'x'}\n    - {name: B, value: '$(A)-$(NO)-$$(A)'}\n    - name: KEY\n      valueFrom: \
                  {secretKeyRef: {name: keys, key: word}}\n    - name: NONE\n      valueFrom: {configMapKeyRef: {name: conf, key: \
                  nosuch, optional: true}}\n    - name: POD\n      valueFrom: {fieldRef: {fieldPath: metadata.name}}\n    - name: \
                  APP\n      valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}\n    - name: CPU\n      valueFrom: \
                  {resourceFieldRef: {resource: limits.cpu}}\n    - name: MEGA\n      valueFrom: {resourceFieldRef: {resource: \
                  limits.memory, divisor: 1Mi}}\n    resources: {limits: {cpu: 1500m, memory: 64Mi}}\n    args: ['$(A)', \
                  '$(KEY)', '$$(A)']\n";
    let documents = read(&format!("{DATA}{}", pod("", fields))).unwrap();
    let container = &documents.pods[0].containers[0];
    let found: Vec<_> = container
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        found,
        [
            "C_COLOUR=green",
            "C_motd=hello\nthere\n",
            "A=x",
            "B=x-$(NO)-$(A)",
            "KEY=sesame",
            "POD=web",
            "APP=web",
            "CPU=2",
            "MEGA=64",
        ]
    );
    assert_eq!(container.args.as_deref().unwrap(), ["x", "sesame", "$(A)"]);
    assert_eq!(documents.secrets, ["keys"]);
}

#[test]
fn volumes_are_of_their_kinds() {
    let spec = "  volumes:\n  - {name: a, hostPath: {path: /srv, type: Directory}}\n  - {name: b, hostPath: {path: \
                data}}\n  - {name: c, emptyDir: {}}\n  - {name: d, emptyDir: {medium: Memory, sizeLimit: 1Mi}}\n  - name: \
                e\n    configMap: {name: conf, defaultMode: 0400, items: [{key: motd, path: etc/motd}]}\n  - {name: f, \
                secret: {secretName: keys}}\n  - {name: g, persistentVolumeClaim: {claimName: data, readOnly: true}}\n  \
                - {name: h, image: {reference: 'x:1'}}\n  - {name: i, configMap: {name: nosuch, optional: true}}\n";
    let mounts = "    volumeMounts:\n    - {name: a, mountPath: '/srv:Z', subPath: x/y, readOnly: true, mountPropagation: \
                  HostToContainer}\n";
    let documents = read(&format!("{DATA}{}", pod(spec, mounts))).unwrap();
    let volumes = &documents.pods[0].volumes;
    let of = |name: &str| {
        &volumes
            .iter()
            .find(|volume| volume.name == name)
            .unwrap()
            .source
    };
    assert_eq!(
        of("a"),
        &Source::HostPath("/srv".to_owned(), HostPath::Directory)
    );
    assert_eq!(of("b"), &Source::Claim("data".to_owned(), false));
    assert_eq!(of("c"), &Source::Empty);
    assert_eq!(of("d"), &Source::Memory(Some(1 << 20)));
    let Source::Files(files) = of("e") else {
        panic!("files")
    };
    assert_eq!((files[0].path.as_str(), files[0].mode), ("etc/motd", 0o400));
    assert_eq!(files[0].content, b"hello\nthere\n");
    let Source::Files(files) = of("f") else {
        panic!("files")
    };
    let names: Vec<_> = files
        .iter()
        .map(|file| (file.path.as_str(), file.content.as_slice()))
        .collect();
    assert_eq!(names, [("other", &b"open"[..]), ("word", b"sesame")]);
    assert_eq!(of("g"), &Source::Claim("data".to_owned(), true));
    assert_eq!(
        of("h"),
        &Source::Image("x:1".to_owned(), PullPolicy::Missing)
    );
    assert_eq!(of("i"), &Source::Missing);
    let mount = &documents.pods[0].containers[0].mounts[0];
    assert_eq!(
        (mount.target.as_str(), mount.options.as_slice()),
        ("/srv", &["Z".to_owned()][..])
    );
    assert_eq!(mount.subpath.as_deref(), Some("x/y"));
    assert!(mount.read_only && mount.propagation == Propagation::HostToContainer);
}

#[test]
fn probes_become_commands_in_the_container() {
    let ports = "    ports: [{name: http, containerPort: 80}]\n";
    for (action, check) in [
        (
            "exec: {command: [test, -e, /ok]}",
            Check::Exec(["test", "-e", "/ok"].map(str::to_owned).to_vec()),
        ),
        (
            "httpGet: {port: http, path: /live}",
            Check::Shell("curl -f -s -o /dev/null 'http://localhost:80/live' || exit 1".to_owned()),
        ),
        (
            "httpGet: {port: 8443, scheme: HTTPS, host: x, httpHeaders: [{name: A, value: it's}]}",
            Check::Shell(
                r"curl -f -s -o /dev/null -k -H 'A: it'\''s' 'https://x:8443/' || exit 1"
                    .to_owned(),
            ),
        ),
        (
            "tcpSocket: {port: 53}",
            Check::Shell("nc -z -v 'localhost' 53 || exit 1".to_owned()),
        ),
    ] {
        let probe =
            format!("{ports}    livenessProbe:\n      {action}\n      initialDelaySeconds: 3\n");
        let found = container(&probe).liveness.unwrap();
        assert_eq!(found.check, check, "{action}");
        assert_eq!(
            (found.delay, found.period),
            (Duration::from_secs(3), Duration::from_secs(10))
        );
        assert_eq!((found.timeout, found.failures), (Duration::from_secs(1), 3));
    }
}

#[test]
fn a_container_has_what_its_pod_says_unless_it_says_it_itself() {
    let spec = "  securityContext: {runAsUser: 7, runAsGroup: 8, seccompProfile: {type: Unconfined}, sysctls: [{name: a, \
                value: '1'}]}\n";
    let text = pod(
        spec,
        "    securityContext: {runAsUser: 9, capabilities: {add: [NET_RAW], drop: [ALL]}, \
                          allowPrivilegeEscalation: false, readOnlyRootFilesystem: true}\n",
    );
    let documents = read(&text).unwrap();
    let security = &documents.pods[0].containers[0].security;
    assert_eq!((security.user, security.group), (Some(9), Some(8)));
    assert_eq!(security.seccomp, Some(Profile::Unconfined));
    assert!(security.no_new_privileges && security.read_only && !security.privileged);
    assert_eq!(
        (&*security.add, &*security.drop),
        (&["NET_RAW".to_owned()][..], &["ALL".to_owned()][..])
    );
    assert_eq!(
        documents.pods[0].sysctls,
        [("a".to_owned(), "1".to_owned())]
    );
}

#[test]
fn ports_are_published_where_the_host_has_one() {
    let found = container(
        "    ports:\n    - {containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1}\n    - {containerPort: 53, protocol: UDP}\n",
    );
    let ports: Vec<_> = found
        .ports
        .iter()
        .map(|port| (port.container, port.host, port.protocol))
        .collect();
    assert_eq!(
        ports,
        [(80, Some(8080), Protocol::Tcp), (53, None, Protocol::Udp)]
    );
    assert_eq!(found.ports[0].address.as_deref(), Some("127.0.0.1"));
}

#[test]
fn documents_that_mean_nothing_here_are_told_of() {
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n---\n";
    let documents = read(&format!("{service}{}", pod("", ""))).unwrap();
    assert_eq!(documents.passed[0].document, "document 1 (Service web)");
    assert_eq!(documents.pods.len(), 1);
}

#[test]
fn a_list_is_as_its_items() {
    let list = "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: y}}\n";
    assert_eq!(read(list).unwrap().sources.config_maps["a"]["x"], b"y");
}

#[test]
fn what_is_wrong_is_told_with_document_line_and_field() {
    let web = "document 1 (Pod web), line ";
    for (text, said) in [
        (pod("", "    nosuch: 1\n"), format!("{web}10, spec.containers[0].nosuch: there is no such field, or kelp does not know it")),
        (pod("", "    lifecycle: {preStop: {exec: {command: [a]}}}\n"), format!("{web}10, spec.containers[0].lifecycle.preStop: it is not supported by kelp: let the command do it when it is asked to stop")),
        (pod("  activeDeadlineSeconds: 5\n", ""), format!("{web}7, spec.activeDeadlineSeconds: it is not supported by kelp")),
        (pod("", "    env: [{name: A, value: yes}]\n"), format!("{web}10, spec.containers[0].env[0].value: yes is a boolean in YAML, and text is wanted: write \"yes\"")),
        (pod("", "    env: [{name: A, valueFrom: {configMapKeyRef: {name: conf, key: x}}}]\n"), format!("{web}10, spec.containers[0].env[0].valueFrom.configMapKeyRef: there is no config map conf: add it to the documents, or name its file with --configmap")),
        (pod("", "    volumeMounts: [{name: v, mountPath: /v}]\n"), format!("{web}10, spec.containers[0].volumeMounts[0].name: the pod has no volume v")),
        (pod("  volumes: [{name: v, emptyDir: {}}]\n", "    volumeMounts: [{name: v, mountPath: /v, subPath: ../x}]\n"), format!("{web}11, spec.containers[0].volumeMounts[0].subPath: invalid path \"../x\": it is relative, and has no ..")),
        (pod("  volumes: [{name: v, nfs: {}}]\n", ""), format!("{web}7, spec.volumes[0].nfs: it is not supported by kelp: mount it on this machine, and use hostPath")),
        (pod("", "    resources: {limits: {memory: 64MB}}\n"), format!("{web}10, spec.containers[0].resources.limits.memory: invalid quantity \"64MB\": it is a number such as 2, 500m, 64Mi or 1e3")),
        (pod("", "    resources: {limits: {nvidia.com/gpu: 1}}\n"), format!("{web}10, spec.containers[0].resources.limits.nvidia.com/gpu: it is not supported by kelp: there are cpu and memory")),
        (pod("", "  - {name: main, image: y}\n"), format!("{web}7, spec: there are two containers of the name main")),
        (pod("", "    ports: [{containerPort: 70000}]\n"), format!("{web}10, spec.containers[0].ports[0].containerPort: 70000 is out of range")),
        (pod("", "    securityContext: {runAsNonRoot: true}\n"), format!("{web}10, spec.containers[0].securityContext.runAsNonRoot: it is not supported by kelp without runAsUser, which says as whom it is to run")),
        ("kind: Ingress\napiVersion: v1\nmetadata: {name: x}\n".to_owned(), "document 1 (Ingress x), line 1: the kind Ingress is not supported by kelp: there are Pod, Deployment, DaemonSet, Job, ConfigMap, Secret and PersistentVolumeClaim".to_owned()),
        ("kind: Pod\napiVersion: v2\nmetadata: {name: x}\n".to_owned(), "document 1 (Pod x), line 2, apiVersion: a Pod is of v1".to_owned()),
        ("kind: Pod\napiVersion: v1\nmetadata: {}\n".to_owned(), "document 1 (Pod), line 3, metadata: name is missing".to_owned()),
        (pod("  volumes: [{name: v, hostPath: {path: data, type: Directory}}]\n", ""), format!("{web}7, spec.volumes[0].hostPath.type: data is the name of a volume, which has no type: write ./data for a path")),
        (pod("", "    env: [{name: A, valueFrom: {fieldRef: {apiVersion: v2, fieldPath: metadata.name}}}]\n"), format!("{web}10, spec.containers[0].env[0].valueFrom.fieldRef.apiVersion: a fieldPath is of v1")),
        ("kind: List\napiVersion: v2\nitems: []\n".to_owned(), "document 1, line 2, apiVersion: a List is of v1".to_owned()),
        ("kind: List\napiVersion: v1\nitems: {}\n".to_owned(), "document 1, line 3, items: it has to be a list".to_owned()),
        ("kind: List\napiVersion: v1\n".to_owned(), "document 1, line 1: items is missing".to_owned()),
        ("kind: List\napiVersion: v1\nitems: []\nitem: []\n".to_owned(), "document 1, line 4, item: there is no such field, or kelp does not know it".to_owned()),
        ("kind: List\napiVersion: v1\nitems:\n- {kind: List, apiVersion: v1, items: []}\n".to_owned(), "document 1, line 4: a List in a List is not supported by kelp".to_owned()),
        (format!("{DATA}{}", &DATA[..DATA.find("---").unwrap()]), "document 3 (ConfigMap conf), line 18: there are two config maps of the name conf".to_owned()),
        (format!("{DATA}{}", &DATA[DATA.find("---").unwrap() + 4..]), "document 3 (Secret keys), line 18: there are two secrets of the name keys".to_owned()),
        (CLAIM.repeat(2), "document 2 (PersistentVolumeClaim data), line 5: there are two claims of the name data".to_owned()),
        ("- a\n".to_owned(), "document 1, line 1: it has to be a mapping".to_owned()),
        ("a: b: c\n".to_owned(), "line 1: ".to_owned()),
        (format!("{}---\n{}", pod("", ""), pod("", "")), "there are two pods of the name web".to_owned()),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 3, template: {spec: {containers: [{name: a, image: b}]}}}\n".to_owned(), "document 1 (Deployment d), line 4, spec.replicas: it is not supported by kelp: one pod is made of a template; write 1".to_owned()),
    ] {
        let error = read(&text).unwrap_err().to_string();
        if said.ends_with(": ") {
            assert!(error.starts_with(&said), "{error}");
        } else {
            assert_eq!(error, said, "{text}");
        }
    }
}
