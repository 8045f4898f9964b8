//! `msm repl` on a pipe: plain lines in, plain results out, the first error ends it.

use crate::rig::*;

async fn crew_of_one(lab: &Lab) -> Crew {
    let market = lab.market("shop", &[lab.blur(), lab.grind()]);
    let crew = Crew::gather(lab, &market, 1).await;
    crew.requester.has_index(&market, 3).await;
    photo(&crew.requester.home.folder().join("photo.png"), 120, 90);
    until("the worker has a score", SOON, async || {
        crew.requester.peers().await.iter().any(|row| row.eqs.is_some()).then_some(())
    })
    .await;
    crew
}

#[tokio::test]
async fn a_script_on_a_pipe() {
    let lab = Lab::new();
    let crew = crew_of_one(&lab).await;
    let home = &crew.requester.home;
    let script = "peers\nsearch blur\ninvoke image-blur photo.png -o out.png\nquit\nnever read\n";
    let ran = msm_with(home, &["repl"], script).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let text = ran.text();
    let line = |words: &[&str]| {
        let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line with {words:?} in:\n{text}");
    };
    line(&["PEER", "EQS", "RTT"]);
    line(&["worker0", " ms", "12D3KooW"]);
    line(&["image-blur", "media/image", "test"]);
    line(&["job ", "test/image-blur@1.1.0"]);
    line(&["out.png", "sha256"]);
    for (name, text) in [("stdout", text.as_bytes()), ("stderr", ran.err.as_bytes())] {
        assert!(!text.contains(&0x1b), "escape codes on {name}: {:?}", String::from_utf8_lossy(text));
    }
    let out = image::open(home.folder().join("out.png")).unwrap();
    assert_eq!((out.width(), out.height()), (120, 90));
}

#[tokio::test]
async fn the_first_error_ends_a_script_with_its_exit_code() {
    let lab = Lab::new();
    let crew = crew_of_one(&lab).await;
    let home = &crew.requester.home;
    let cases = [
        ("peers\nshow no-such-service\ninvoke image-blur photo.png -o never.png\n", 9),
        ("invoke image-blur photo.png -o never.png -p radius=0\npeers\n", 2),
        ("invoke image-blur missing.png -o never.png\n", 9),
        ("bogus\n", 2),
        ("invoke image-blur photo.png -o never.png --require gps\n", 5),
        ("market add msm:market:7lchtiuxfto4a4kh7jmwvbyywxeesod2fdycuxz6itedjctuo55q\n", 4),
        ("status --json", 0),
        ("", 0),
    ];
    for (script, code) in cases {
        let ran = msm_with(home, &["repl"], script).await;
        assert_eq!(ran.code, code, "{script}: {}\n{}", ran.text(), ran.err);
        assert!(!home.folder().join("never.png").exists(), "{script}");
        if code != 0 {
            assert!(ran.err.contains("error["), "{script}: {}", ran.err);
        }
    }
    let kept = msm_with(home, &["repl", "--keep-going"], "show no-such-service\nbogus\nstatus\n").await;
    assert_eq!(kept.code, 9, "the first error's: {}", kept.err);
    assert!(kept.text().contains("phone"), "{}", kept.text());
    let nobody = msm(home, &["invoke", "image-blur", "photo.png", "--require", "gps", "--plan"]).await;
    assert!(nobody.text().contains("no device fits: the job would not run"), "{}\n{}", nobody.text(), nobody.err);
    let flags = msm(home, &["repl", "-c", "status", "-c", "peers"]).await;
    assert!(flags.code == 0 && flags.text().contains("worker0"), "{}", flags.err);
}

#[tokio::test]
async fn without_a_node_there_is_nobody_to_talk_to() {
    let lab = Lab::new();
    let ran = msm_with(&lab.home("phone"), &["repl"], "peers\n").await;
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.out.is_empty() && ran.err.contains("try: msm node"), "{}", ran.err);
}
