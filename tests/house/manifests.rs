//! What the plain manifests have twice is the same.

/// The lines of every `securityContext`, without their indentation.
fn security(manifest: &str) -> Vec<String> {
    let text = super::read(&super::root().join(manifest));
    let (mut found, mut within) = (Vec::new(), None);
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if within.is_some_and(|from| indent <= from) {
            within = None;
        }
        if line.trim() == "securityContext:" {
            within = Some(indent);
        }
        if within.is_some() {
            found.push(line.trim().to_owned());
        }
    }
    found
}

#[test]
fn a_job_may_do_no_more_than_a_processor() {
    let processor = security("k8s/base/deployment.yaml");
    assert!(processor.len() > 10, "{processor:?}");
    assert_eq!(security("k8s/job.yaml"), processor);
}
