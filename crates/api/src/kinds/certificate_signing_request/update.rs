//! What `/approval` and `/status` may write of a request: the one the conditions, the other the rest of the status and
//! the conditions that are no verdict.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest as Request, CertificateSigningRequestCondition as Condition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::kind::Subresource;

/// The conditions that say what was decided.
pub(super) const VERDICTS: [&str; 2] = ["Approved", "Denied"];

pub(super) fn conditions(request: &Request) -> &[Condition] {
    request.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default()
}

pub(super) fn certificate(request: &Request) -> Option<&ByteString> {
    request.status.as_ref()?.certificate.as_ref().filter(|bytes| !bytes.0.is_empty())
}

/// The conditions of a type.
pub(super) fn of_type<'a>(request: &'a Request, kind: &str) -> Vec<&'a Condition> {
    conditions(request).iter().filter(|c| c.type_ == kind).collect()
}

pub(super) fn prepare_part(part: Subresource, new: &mut Request, old: &Request, now: Timestamp) {
    if part == Subresource::Approval {
        let conditions = new.status.take().and_then(|status| status.conditions);
        let mut status = old.status.clone().unwrap_or_default();
        status.conditions = conditions;
        new.status = Some(status);
    } else {
        for kind in VERDICTS {
            keep_verdict(new, old, kind);
        }
    }
    let Some(status) = &mut new.status else { return };
    for condition in status.conditions.iter_mut().flatten() {
        set_times(condition, old, now);
    }
}

/// Puts the old verdicts of a type in the place of the new ones. One too many or too few is left for the rules to refuse.
fn keep_verdict(new: &mut Request, old: &Request, kind: &str) {
    let kept = of_type(old, kind);
    if of_type(new, kind).len() != kept.len() {
        return;
    }
    let all = new.status.iter_mut().flat_map(|s| s.conditions.iter_mut().flatten());
    for (condition, before) in all.filter(|c| c.type_ == kind).zip(kept) {
        condition.clone_from(before);
    }
}

fn set_times(condition: &mut Condition, old: &Request, now: Timestamp) {
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    condition.last_update_time.get_or_insert_with(|| now.clone());
    if condition.last_transition_time.is_none() {
        let same = |c: &&Condition| c.type_ == condition.type_ && c.status == condition.status;
        let since = conditions(old).iter().filter(same).find_map(|c| c.last_transition_time.clone());
        condition.last_transition_time = Some(since.unwrap_or(now));
    }
}
