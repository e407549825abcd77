//! Volumes: kinds that no longer work anywhere, files of one volume that are in each other's way.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume, VolumeProjection};

use crate::field::Path;

/// Of one volume, at its path.
pub(super) fn of(path: &Path<'_>, volume: &Volume, said: &mut Vec<String>) {
    said.extend(outdated(path, volume));
    overlaps(volume, said);
}

fn outdated(path: &Path<'_>, volume: &Volume) -> Option<String> {
    let kinds = [
        (
            volume.photon_persistent_disk.is_some(),
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (volume.git_repo.is_some(), "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
        (volume.scale_io.is_some(), "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        (volume.flocker.is_some(), "flocker", "deprecated in v1.22, non-functional in v1.25+"),
        (volume.storageos.is_some(), "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
        (volume.quobyte.is_some(), "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
        (volume.glusterfs.is_some(), "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        (volume.cephfs.is_some(), "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        (volume.rbd.is_some(), "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ];
    let (_, field, why) = kinds.into_iter().find(|(is_there, ..)| *is_there)?;
    Some(format!("{}: {why}", path.child(field)))
}

/// Files that one volume puts at the same place, or one of them where another needs a directory.
fn overlaps(volume: &Volume, said: &mut Vec<String>) {
    let name = &volume.name;
    let mut alone = |what: String, files: Vec<&str>| {
        let mut taken = Vec::new();
        place(&format!("volume {name:?} ({what})"), files, &mut taken, said);
    };
    if let Some(map) = &volume.config_map {
        alone(format!("ConfigMap {:?}", map.name), keys(map.items.as_deref()));
    }
    if let Some(secret) = &volume.secret {
        alone(
            format!("Secret {:?}", secret.secret_name.as_deref().unwrap_or_default()),
            keys(secret.items.as_deref()),
        );
    }
    if let Some(facts) = &volume.downward_api {
        alone("DownwardAPI".to_owned(), facts_of(facts.items.as_deref()));
    }
    let mut taken = Vec::new();
    for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        match projected(source) {
            Some((what, files)) => {
                place(&format!("volume {name:?} (Projected {what})"), files, &mut taken, said);
            }
            None if *source == VolumeProjection::default() => {
                said.push(format!("volume {name:?} (Projected) has no sources provided"));
            }
            None => {}
        }
    }
}

/// What a source of a projected volume is, and the files that it says it makes.
fn projected(source: &VolumeProjection) -> Option<(String, Vec<&str>)> {
    if let Some(map) = &source.config_map {
        return Some((format!("ConfigMap {:?}", map.name), keys(map.items.as_deref())));
    }
    if let Some(secret) = &source.secret {
        return Some((format!("Secret {:?}", secret.name), keys(secret.items.as_deref())));
    }
    if let Some(facts) = &source.downward_api {
        return Some(("DownwardAPI".to_owned(), facts_of(facts.items.as_deref())));
    }
    if let Some(token) = &source.service_account_token {
        return Some(("ServiceAccountToken".to_owned(), vec![token.path.as_str()]));
    }
    let bundle = source.cluster_trust_bundle.as_ref()?;
    let name = bundle.name.as_ref().or(bundle.signer_name.as_ref()).map_or("", String::as_str);
    Some((format!("ClusterTrustBundle {name:?}"), vec![bundle.path.as_str()]))
}

fn keys(items: Option<&[KeyToPath]>) -> Vec<&str> {
    items.unwrap_or_default().iter().map(|item| item.path.as_str()).collect()
}

fn facts_of(items: Option<&[DownwardAPIVolumeFile]>) -> Vec<&str> {
    items.unwrap_or_default().iter().map(|item| item.path.as_str()).collect()
}

/// Holds files against those that are there already, which they then join.
fn place<'v>(what: &str, files: Vec<&'v str>, taken: &mut Vec<&'v str>, said: &mut Vec<String>) {
    for file in files.into_iter().map(|file| file.trim_end_matches('/')).filter(|file| !file.is_empty()) {
        if let Some(other) = taken.iter().find(|other| overlap(file, other)) {
            said.push(format!("{what}: overlapping paths: {file:?} with {other:?}"));
        }
        taken.push(file);
    }
}

fn overlap(a: &str, b: &str) -> bool {
    let holds = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    holds(a, b) || holds(b, a)
}
