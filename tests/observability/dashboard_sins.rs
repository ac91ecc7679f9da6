//! Dashboards with something wrong in them.

use serde_json::json;

use super::*;

/// A dashboard with one panel, and nothing wrong.
fn innocent() -> Dashboard {
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let query = |name: &str, query: &str| {
        json!({"name": name, "type": "query", "datasource": source, "definition": query,
               "query": {"query": query}})
    };
    let alerts = r#"ALERTS{alertstate="firing",job=~"$job|"}"#;
    let builds = r#"punctual_build_info{job=~"$job",instance=~"$instance"}"#;
    let annotation = |expr: &str, label: &str| {
        json!({"name": expr, "enable": true, "datasource": source, "expr": expr,
               "titleFormat": format!("{{{{{label}}}}}"), "tagKeys": "instance"})
    };
    let expr = r#"max by (queue, state) (punctual_workers{job=~"$job",queue=~"$queue"})"#;
    let json = json!({
        "uid": "punctual-sins", "title": "Sins", "schemaVersion": 42, "editable": false,
        "graphTooltip": 1,
        "links": [{"url": "/d/punctual-queue?${job:queryparam}&var-queue=x"}],
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            query("job", "label_values(punctual_build_info, job)"),
            query("instance", r#"label_values(punctual_build_info{job=~"$job"}, instance)"#),
            query("queue", r#"label_values(punctual_queue_depth{job=~"$job"}, queue)"#),
        ]},
        "annotations": {"list": [annotation(alerts, "alertname"), annotation(builds, "version")]},
        "panels": [{
            "id": 7, "type": "timeseries", "title": "Workers", "description": "Who works.",
            "datasource": source,
            "fieldConfig": {
                "defaults": {"unit": "short", "min": 0, "noValue": "no sample", "links": [
                    {"url": "/d/punctual-queue?var-queue=${__field.labels.queue}"},
                ]},
                "overrides": [{"matcher": {"id": "byFrameRefID", "options": "A"}}],
            },
            "targets": [{"refId": "A", "datasource": source, "expr": expr,
                         "legendFormat": "{{queue}} {{state}}"}],
        }],
    });
    Dashboard { file: "dashboards/sins.json".to_owned(), json }
}

/// What is found after `pointer` was set to `value`; nothing is, before.
fn sin(pointer: &str, value: Value) -> Findings {
    let mut dashboard = innocent();
    let mut world = World::default();
    world.alerts.insert("PunctualAlert".to_owned());
    let mut uids = uids();
    uids.insert("punctual-sins".to_owned(), dashboard.variables().into_keys().collect());
    let mut found = Findings::default();
    dashboard.check(&world, &uids, &mut found);
    found.none();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = dashboard.json.pointer_mut(parent).expect("something is there");
    match (parent, value) {
        (Value::Object(object), Value::Null) => drop(object.remove(key).expect("it was there")),
        (Value::Array(array), value) if key == "-" => array.push(value),
        (Value::Array(array), value) => array[key.parse::<usize>().expect("a number")] = value,
        (object, value) => object[key] = value,
    }
    dashboard.check(&world, &uids, &mut found);
    found
}

const PANEL: &str = "dashboards/sins.json, panel 7 \"Workers\"";

#[test]
fn a_panel_that_lacks_something() {
    for (pointer, wrong, cure) in [
        ("/panels/0/description", "it has no description", "say what it shows"),
        ("/panels/0/fieldConfig/defaults/unit", "it has no unit", "set fieldConfig.defaults.unit"),
        ("/panels/0/fieldConfig/defaults/min", "it has no min", "set fieldConfig.defaults.min"),
        ("/panels/0/fieldConfig/defaults/noValue", "it has no noValue", "what it means"),
        ("/panels/0/targets", "it has no query", "give it one"),
        ("/panels/0/targets/0/legendFormat", "its series have no name", "set legendFormat"),
    ] {
        // Without queries the override has none to be for.
        let found = sin(pointer, Value::Null);
        if pointer.ends_with("targets") {
            assert!(format!("{found:?}").contains(wrong));
        } else {
            found.only(PANEL, wrong, cure);
        }
    }
    sin("/panels/0/description", json!("")).only(PANEL, "it has no description", "say what");
    sin("/panels/0/type", json!("piechart")).only(PANEL, "it is a pie chart", "use bars");
}

#[test]
fn a_dashboard_that_lacks_something() {
    let file = "dashboards/sins.json";
    sin("/schemaVersion", json!(16)).only(file, "/schemaVersion is 16", "make it 42");
    sin("/uid", json!("x")).only(file, "/uid is \"x\"", "make it \"punctual-sins\"");
    sin("/editable", json!(true)).only(file, "/editable is true", "make it false");
    sin("/graphTooltip", Value::Null).only(file, "/graphTooltip is null", "make it 1");
    let without = json!([innocent().annotations().next().expect("one")]);
    sin("/annotations/list", without).only(file, "no annotation reads punctual_build_info", "mark");
    sin("/annotations/list/0/enable", json!(false)).only(file, "reads ALERTS", "mark deploys");
    let queue = json!({"name": "q", "type": "textbox"});
    let found = format!("{:?}", sin("/templating/list/3", queue));
    assert!(found.contains("it has no variable queue"), "{found}");
}

#[test]
fn panels_that_are_too_many_or_the_same() {
    let twin = innocent().json["panels"][0].clone();
    sin("/panels/-", twin.clone()).only(PANEL, "its id is not its own", "take the next free");
    let many = (1..=26).map(|id| {
        let mut panel = twin.clone();
        panel["id"] = json!(id);
        panel
    });
    sin("/panels", many.collect()).only("sins.json", "it has 26 panels", "keep to 25");
    // Those in a folded row count, and are checked.
    let mut odd = twin.clone();
    (odd["id"], odd["description"]) = (json!(9), json!(""));
    let row = json!({"id": 8, "type": "row", "title": "Row", "panels": [odd]});
    sin("/panels/-", row).only("panel 9 \"Workers\"", "it has no description", "say what");
    let target = twin["targets"][0].clone();
    sin("/panels/0/targets/-", target).only(PANEL, "the same refId", "letter them");
}

#[test]
fn another_data_source() {
    let other = json!({"type": "prometheus", "uid": "abc123"});
    let cure = "make it {\"type\":\"prometheus\",\"uid\":\"${datasource}\"}";
    for (pointer, place) in [
        ("/panels/0/datasource", PANEL),
        ("/panels/0/targets/0/datasource", "panel 7 \"Workers\", query A"),
        ("/annotations/list/0/datasource", "annotation"),
        ("/templating/list/1/datasource", "variable \"job\""),
    ] {
        sin(pointer, other.clone()).only(place, "its data source is", cure);
        sin(pointer, Value::Null).only(place, "its data source is null", cure);
    }
}

#[test]
fn queries_are_found_wherever_they_are() {
    let expr = "/panels/0/targets/0/expr";
    let panel = "panel 7 \"Workers\", query A";
    sin(expr, json!("punctual_worker")).only(
        panel,
        "punctual_worker is neither",
        "write punctual_workers",
    );
    sin(expr, json!(r#"sum by (queue, state) (punctual_workers{job=~"$job",queue=~"$queue"})"#))
        .only(panel, "sum over the replicas of punctual_workers", "max without");
    sin("/annotations/list/0/expr", json!(r#"ALERTS{alertname="PunctualX",job=~"$job"}"#)).only(
        "annotation",
        "alertname is never \"PunctualX\"",
        "it can be PunctualAlert",
    );
    sin("/annotations/list/1/titleFormat", json!("{{commit}}")).only(
        "annotation",
        "titleFormat shows commit",
        "it has instance, job",
    );
    sin("/annotations/list/1/tagKeys", json!("version, sha")).only(
        "annotation",
        "tagKeys shows sha",
        "it has instance, job",
    );
    let variable = |query: &str| {
        let mut json = innocent().json["templating"]["list"][3].clone();
        (json["definition"], json["query"]["query"]) = (json!(query), json!(query));
        sin("/templating/list/3", json)
    };
    let place = "variable queue";
    variable(r#"label_values(punctual_depth{job=~"$job"}, queue)"#).only(
        place,
        "punctual_depth is neither",
        "declare it",
    );
    variable("label_values(punctual_queue_depth, queue)").only(
        place,
        "it is not filtered by $job",
        "match job=~\"$job\"",
    );
    variable("metrics(punctual_.*)").only(place, "no query for a variable", "label_values(METRIC");
    sin("/templating/list/3/definition", json!("x")).only(place, "differ", "the same into both");
}

#[test]
fn names_that_nothing_has() {
    sin("/panels/0/targets/0/legendFormat", json!("{{kind}}")).only(
        "query A",
        "the legend shows kind, which the result does not have",
        "it has queue, state",
    );
    let link = json!("/d/punctual-queue?var-queue=${__field.labels.kind}");
    sin("/panels/0/fieldConfig/defaults/links/0/url", link).only(
        PANEL,
        "a link shows kind",
        "it has queue, state",
    );
    let matcher = "/panels/0/fieldConfig/overrides/0/matcher";
    sin(matcher, json!({"id": "byFrameRefID", "options": "C"})).only(
        PANEL,
        "an override is for query C",
        "no such query",
    );
    // The queue is open, so anything may be called so.
    sin(matcher, json!({"id": "byName", "options": "mail idle"})).none();
    let organize = |options: Value| json!([{"id": "organize", "options": options}]);
    let transformed = organize(json!({"renameByName": {"Value #B": "Depth"}}));
    sin("/panels/0/transformations", transformed).only(
        PANEL,
        "renameByName has Value #B",
        "Value #A",
    );
}

#[test]
fn overrides_of_closed_labels() {
    let matcher = |id: &str, option: &str| {
        let mut panel = innocent().json["panels"][0].clone();
        panel["targets"][0]["legendFormat"] = json!("{{state}} workers");
        panel["fieldConfig"]["overrides"][0]["matcher"] = json!({"id": id, "options": option});
        sin("/panels/0", panel)
    };
    matcher("byName", "idle workers").none();
    matcher("byName", "lazy workers").only(PANEL, "\"lazy workers\"", "idle workers, busy workers");
    matcher("byRegexp", "/^(idle|busy) .*$/").none();
    matcher("byRegexp", "/^lazy.*$/").only(PANEL, "for /^lazy.*$/", "nothing is called so");
    matcher("byRegexp", "/idle/").only(PANEL, "/idle/ is not anchored", "write /^…$/");
}

#[test]
fn links_that_lead_nowhere() {
    let url = "/links/0/url";
    let file = "dashboards/sins.json";
    sin(url, json!("/d/punctual-cellar")).only(file, "no dashboard punctual-cellar", "link to");
    sin(url, json!("/d/punctual-queue?var-kind=x")).only(
        file,
        "the link sets $kind, which punctual-queue does not have",
        "set a variable",
    );
    sin(url, json!("/d/punctual-queue?${kind:queryparam}")).only(file, "sets $kind", "set");
}

#[test]
fn dashboards_that_are_called_the_same() {
    let of = |key: &str| {
        let mut twin = innocent();
        twin.file = "dashboards/twin.json".to_owned();
        (twin.json["uid"], twin.json["title"]) = (json!("punctual-twin"), json!("Twin"));
        twin.json[key] = innocent().json[key].clone();
        let mut found = Findings::default();
        check_apart(&[innocent(), twin], &mut found);
        found
    };
    of("schemaVersion").none();
    of("uid").only("twin.json", "its uid \"punctual-sins\" is not its own", "choose another");
    of("title").only("twin.json", "its title \"Sins\" is not its own", "choose another");
}
