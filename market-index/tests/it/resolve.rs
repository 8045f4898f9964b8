//! From `name@range` to a release, and the errors that help.

use msm_market_index::{ResolveError, ServiceRef, resolve};
use msm_protocol::document::{Release, Status};

use crate::fixture::release;

fn releases() -> Vec<Release> {
    let mut all: Vec<Release> = [
        ("image-blur", "1.0.0"),
        ("image-blur", "1.2.0"),
        ("image-blur", "1.10.1"),
        ("image-blur", "2.0.0"),
        ("image-blur", "3.0.0-rc.1"),
        ("page-fetch", "0.1.4"),
        ("page-fetch", "0.2.0"),
        ("gps-share", "1.0.0"),
    ]
    .map(|(name, version)| release(name, version))
    .into();
    all[3].status = Status::Yanked;
    all[7].status = Status::Revoked;
    all
}

#[test]
fn the_newest_active_match_is_picked() {
    let all = releases();
    for (request, version) in [
        ("image-blur", "1.10.1"),
        ("image-blur@1", "1.10.1"),
        ("image-blur@1.2", "1.10.1"),
        ("image-blur@=1.2.0", "1.2.0"),
        ("image-blur@~1.2", "1.2.0"),
        ("image-blur@<1.10", "1.2.0"),
        ("image-blur@>=1, <1.1", "1.0.0"),
        ("image-blur@3.0.0-rc.1", "3.0.0-rc.1"),
        ("home/image-blur@1.0", "1.10.1"),
        ("page-fetch@0.1", "0.1.4"),
    ] {
        assert_eq!(resolve(&all, request).map(|found| found.version.as_str()), Ok(version), "{request}");
    }
}

#[test]
fn every_error_says_what_would_work() {
    let all = releases();
    for (request, expected) in [
        ("imgblur", "not-found: no service \"imgblur\"; closest name: image-blur"),
        ("page-fetsh@0.1", "not-found: no service \"page-fetsh\"; closest name: page-fetch"),
        ("translate", "not-found: no service \"translate\""),
        ("image-blur@9", "not-found: no version of image-blur matches ^9; newest usable: 1.10.1"),
        ("image-blur@2", "image-blur 2.0.0 is yanked; newest usable: 1.10.1"),
        ("gps-share", "gps-share 1.0.0 is revoked; no version can be used"),
        ("image-blur@", "is not a service"),
        ("image-blur@one", "is not a service"),
        ("../image-blur", "is not a service"),
        ("a/b/c", "is not a service"),
        ("", "is not a service"),
        (&"a".repeat(5_000), "is not a service"),
    ] {
        let error = resolve(&all, request).unwrap_err().to_string();
        assert!(error.contains(expected), "{request}: {error}");
        assert!(error.len() < 300);
    }
    assert!(matches!(resolve(&[], "any"), Err(ResolveError::NotFound { closest: None, .. })));
}

#[test]
fn references_print_as_they_are_read() {
    for text in ["blur", "blur@^1.2", "home/blur@=1.2.3"] {
        assert_eq!(text.parse::<ServiceRef>().unwrap().to_string(), text);
    }
}
