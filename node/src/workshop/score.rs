//! A service's score, 0 to 100, and what would raise it. The points are judgement: they follow what helps a stranger to
//! trust and use a service, most for tests.

use msm_protocol::manifest::Split;

use super::check::{Checked, first_paragraph};

/// One thing that earns points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it can earn.
    pub points: u8,
    /// What it has earned.
    pub earned: u8,
    /// What to do for the rest.
    pub advice: String,
}

/// The points of a service; those of one that cannot be packed are none.
pub fn items(checked: &Checked) -> Vec<Item> {
    let Some(project) = &checked.project else {
        return vec![Item { points: 100, earned: 0, advice: "correct its errors".to_owned() }];
    };
    let manifest = &project.package.manifest;
    let mut items = Vec::new();
    let mut item = |points: u8, earned: bool, advice: &str| {
        items.push(Item { points, earned: if earned { points } else { 0 }, advice: advice.to_owned() });
    };
    item(20, checked.ok(), "correct its errors");
    item(20, !checked.cases.is_empty(), "add a test: tests/NAME.toml with input and expect");
    item(6, checked.cases.len() >= 3, "have at least 3 tests, odd inputs among them");
    let in_parts =
        manifest.work.split == Split::None || checked.cases.iter().any(|case| case.chunks.iter().any(|n| *n > 2));
    item(8, in_parts, "let a test run in 3 parts or more: chunks = [1, 3, 7]");
    item(
        8,
        manifest.work.deterministic,
        "make it deterministic, and say so under [work]: its results can be checked then",
    );
    let readme = checked.readme.as_deref().unwrap_or_default();
    item(8, first_paragraph(readme).is_some(), "say in README.md what it does");
    item(8, readme.contains(&format!("msm invoke {}", manifest.name)), "add an example to README.md");
    item(4, manifest.summary.chars().count() >= 12, "write a summary of a few words");
    let described = manifest.params.iter().all(|param| !param.description.is_empty());
    item(4, described, "describe every parameter");
    item(2, !manifest.license.is_empty(), "name its license");
    item(2, !manifest.authors.is_empty(), "name its authors");
    // One point for each step of the rating above 1, and five more for touching nothing.
    let rating = manifest.permissions.rating();
    let earned = (rating - 1) + 5 * u8::from(rating == 6);
    let advice = format!("ask for less: its permissions rate {rating} of 6");
    items.push(Item { points: 10, earned, advice });
    items
}

/// Points earned, and advice for the others, the most worthwhile first.
pub fn score(checked: &Checked) -> (u8, Vec<(u8, String)>) {
    let items = items(checked);
    let earned = items.iter().map(|item| item.earned).sum();
    let mut advice: Vec<(u8, String)> = items
        .into_iter()
        .filter(|item| item.earned < item.points)
        .map(|item| (item.points - item.earned, item.advice))
        .collect();
    advice.sort_by_key(|(points, _)| std::cmp::Reverse(*points));
    (earned, advice)
}
