//! The kinds that are only questions: who am I, what may I do, what may they do, whose token is this. Here stands how
//! they are asked; the server answers them.

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReview,
    SelfSubjectRulesReview, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::behavior::Behavior;
use crate::field::FieldError;
use crate::kind::{Column, KindInfo};
use crate::table;

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const COLUMNS: &[Column] = &[table::NAME, table::AGE];

const fn info(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    namespaced: bool,
) -> KindInfo {
    KindInfo {
        group,
        version: "v1",
        kind,
        plural,
        singular,
        short_names: &[],
        categories: &[],
        namespaced,
        subresources: &[],
        create_on_update: false,
        unconditional_update: false,
    }
}

fn cells(meta: &ObjectMeta, now: Timestamp) -> Vec<Value> {
    vec![table::name(meta), table::age(meta, now)]
}

/// A question is about objects or about a path, not both.
fn attributes(
    resource: Option<&ResourceAttributes>,
    path: Option<&NonResourceAttributes>,
    errors: &mut Vec<FieldError>,
) {
    let detail = match (resource, path) {
        (Some(_), Some(_)) => "cannot be specified in combination with resourceAttributes",
        (None, None) => "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        _ => return,
    };
    let field = if resource.is_some() { "spec.nonResourceAttributes" } else { "spec.resourceAttributes" };
    errors.push(FieldError::invalid(field, path, detail));
}

/// A question about somebody says who that is.
fn about_somebody(spec: &SubjectAccessReviewSpec, errors: &mut Vec<FieldError>) {
    attributes(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref(), errors);
    let user = spec.user.as_deref().unwrap_or_default();
    if user.is_empty() && spec.groups.as_ref().is_none_or(Vec::is_empty) {
        errors.push(FieldError::invalid(
            "spec.user",
            user,
            "at least one of user or group must be specified",
        ));
    }
}

/// May I?
pub(crate) struct SelfSubjectAccessReviews;

impl Behavior for SelfSubjectAccessReviews {
    type Object = SelfSubjectAccessReview;

    const INFO: &'static KindInfo = &info(
        AUTHORIZATION,
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        false,
    );
    const VIRTUAL: bool = true;
    const COLUMNS: &'static [Column] = COLUMNS;

    fn validate(review: &SelfSubjectAccessReview, errors: &mut Vec<FieldError>) {
        let spec = &review.spec;
        attributes(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref(), errors);
    }

    fn cells(review: &SelfSubjectAccessReview, now: Timestamp) -> Vec<Value> {
        cells(&review.metadata, now)
    }
}

/// May they?
pub(crate) struct SubjectAccessReviews;

impl Behavior for SubjectAccessReviews {
    type Object = SubjectAccessReview;

    const INFO: &'static KindInfo =
        &info(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview", false);
    const VIRTUAL: bool = true;
    const COLUMNS: &'static [Column] = COLUMNS;

    fn validate(review: &SubjectAccessReview, errors: &mut Vec<FieldError>) {
        about_somebody(&review.spec, errors);
    }

    fn cells(review: &SubjectAccessReview, now: Timestamp) -> Vec<Value> {
        cells(&review.metadata, now)
    }
}

/// May they, in this namespace?
pub(crate) struct LocalSubjectAccessReviews;

impl Behavior for LocalSubjectAccessReviews {
    type Object = LocalSubjectAccessReview;

    const INFO: &'static KindInfo = &info(
        AUTHORIZATION,
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
        true,
    );
    const VIRTUAL: bool = true;
    const COLUMNS: &'static [Column] = COLUMNS;

    fn validate(review: &LocalSubjectAccessReview, errors: &mut Vec<FieldError>) {
        about_somebody(&review.spec, errors);
        if review.spec.non_resource_attributes.is_some() {
            let detail = "disallowed on this kind of request";
            errors.push(FieldError::invalid(
                "spec.nonResourceAttributes",
                &review.spec.non_resource_attributes,
                detail,
            ));
        }
        let asked = review.spec.resource_attributes.as_ref().and_then(|a| a.namespace.as_deref());
        let namespace = review.metadata.namespace.as_deref();
        if asked.is_some() && asked != namespace {
            let detail = format!("must match metadata.namespace: {}", namespace.unwrap_or_default());
            errors.push(FieldError::invalid("spec.resourceAttributes.namespace", asked, detail));
        }
    }

    fn cells(review: &LocalSubjectAccessReview, now: Timestamp) -> Vec<Value> {
        cells(&review.metadata, now)
    }
}

/// What may I do in a namespace?
pub(crate) struct SelfSubjectRulesReviews;

impl Behavior for SelfSubjectRulesReviews {
    type Object = SelfSubjectRulesReview;

    const INFO: &'static KindInfo = &info(
        AUTHORIZATION,
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
        false,
    );
    const VIRTUAL: bool = true;
    const COLUMNS: &'static [Column] = COLUMNS;

    fn cells(review: &SelfSubjectRulesReview, now: Timestamp) -> Vec<Value> {
        cells(&review.metadata, now)
    }
}

/// Who am I?
pub(crate) struct SelfSubjectReviews;

impl Behavior for SelfSubjectReviews {
    type Object = SelfSubjectReview;

    const INFO: &'static KindInfo =
        &info(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview", false);
    const VIRTUAL: bool = true;
    const COLUMNS: &'static [Column] = COLUMNS;

    fn cells(review: &SelfSubjectReview, now: Timestamp) -> Vec<Value> {
        cells(&review.metadata, now)
    }
}

/// Whose token is this?
pub(crate) struct TokenReviews;

impl Behavior for TokenReviews {
    type Object = TokenReview;

    const INFO: &'static KindInfo =
        &info(AUTHENTICATION, "TokenReview", "tokenreviews", "tokenreview", false);
    const VIRTUAL: bool = true;
    const COLUMNS: &'static [Column] = COLUMNS;

    fn validate(review: &TokenReview, errors: &mut Vec<FieldError>) {
        if review.spec.token.is_empty() {
            errors.push(FieldError::required("spec.token", ""));
        }
    }

    fn cells(review: &TokenReview, now: Timestamp) -> Vec<Value> {
        cells(&review.metadata, now)
    }
}
