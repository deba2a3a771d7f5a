//! `docs/api`: a page for each package, and one that says what holds for all.

mod access;
mod reasons;

use std::collections::BTreeMap;

use gateway::openapi::{Behaviors, Comment};
use gateway::routes::{Body, Route, RouteTable};
use http::Method;
use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    MethodDescriptor, ServiceDescriptor,
};

use super::markdown::{Page, code};
use super::words::{Words, relative, segment, short, short_enum};
use crate::contexts::Name;

/// What holds for every method.
const CONVENTIONS: &str = include_str!("api.md");
/// What a comment says before the roles that may call.
const CALLERS: &str = "Callers:";
/// And before the errors.
const ERRORS: &str = "Errors:";

/// The index, then the packages of contexts, then the others.
pub(super) fn pages(pool: &DescriptorPool, words: &Words) -> Vec<Page> {
    let routes = RouteTable::new(pool).expect("routes");
    let mut packages: BTreeMap<(usize, String), Vec<FileDescriptor>> = BTreeMap::new();
    for file in pool.files().filter(|file| file.package_name().starts_with("taxi.")) {
        let context = Name::ALL.iter().position(|it| it.as_str() == segment(file.package_name()));
        let place = context.unwrap_or(Name::ALL.len());
        packages.entry((place, file.package_name().to_owned())).or_default().push(file);
    }
    let api = Api { words, routes: &routes, said_of_all: said_of_all(pool) };
    let mut pages = vec![api.index(pool, packages.values())];
    pages.extend(packages.iter().map(|((_, package), files)| api.package(package, files)));
    pages
}

struct Api<'a> {
    words: &'a Words,
    routes: &'a RouteTable,
    /// Paragraphs that all services have: they are in the index, once.
    said_of_all: Vec<String>,
}

/// A page that is being written.
struct Draft<'a> {
    api: &'a Api<'a>,
    page: Page,
}

impl Api<'_> {
    fn index<'f>(
        &self,
        pool: &DescriptorPool,
        packages: impl Iterator<Item = &'f Vec<FileDescriptor>>,
    ) -> Page {
        let mut page = Page::new("api/index.md", "the comments in proto/taxi and api.md");
        page.add(CONVENTIONS);
        google_types(pool).iter().for_each(|kind| {
            assert!(CONVENTIONS.contains(&format!("`{kind}`")), "api.md does not explain {kind}");
        });
        page.add("## Errors");
        for paragraph in &self.said_of_all {
            page.add(self.words.linked(&page.path, paragraph));
        }
        page.add("## Packages");
        for files in packages {
            let Some(package) = files.first().map(FileDescriptor::package_name) else { continue };
            let of = format!("api/{}.md", segment(package));
            let services = files.iter().flat_map(FileDescriptor::services);
            page.add(format!("### [{package}]({})", relative(&page.path, &of)));
            let mut draft = Draft { api: self, page };
            let services: Vec<ServiceDescriptor> = services.collect();
            for service in &services {
                draft.page.add(comment_of_service(service).summary().to_owned() + ".");
                draft.methods(service);
            }
            if services.is_empty() {
                draft.page.add(draft.contents(files));
            }
            page = draft.page;
        }
        page
    }

    fn package(&self, package: &str, files: &[FileDescriptor]) -> Page {
        let path = format!("api/{}.md", segment(package));
        let source = format!("the comments in proto/{}", package.replace('.', "/"));
        let mut draft = Draft { api: self, page: Page::new(path, &source) };
        draft.page.add(format!("# {package}"));
        let (events, files): (Vec<_>, Vec<_>) =
            files.iter().partition(|file| file.name().ends_with("/events.proto"));
        let services: Vec<ServiceDescriptor> = files.iter().flat_map(|it| it.services()).collect();
        for service in &services {
            draft.service(service);
        }
        draft.events(&events);
        let mut messages = files.iter().flat_map(|it| it.messages());
        let inlined = |message: &MessageDescriptor| {
            services.iter().any(|it| it.methods().any(|method| belongs(message, &method)))
        };
        let messages: Vec<MessageDescriptor> =
            messages.by_ref().filter(|it| !inlined(it)).collect();
        if !services.is_empty() && !messages.is_empty() {
            draft.page.add("## Messages");
        }
        let level = if services.is_empty() { "##" } else { "###" };
        for message in &messages {
            draft.page.add(format!("{level} {}", short(message)));
            draft.message(message);
        }
        draft.page
    }

    fn route(&self, method: &MethodDescriptor) -> Option<&Route> {
        self.routes.routes().iter().find(|route| route.rpc == *method)
    }
}

impl Draft<'_> {
    fn linked(&self, text: &str) -> String {
        self.api.words.linked(&self.page.path, text)
    }

    fn service(&mut self, service: &ServiceDescriptor) {
        self.page.add(format!("## {}", service.name()));
        let comment = comment_of_service(service).text();
        let own =
            comment.split("\n\n").filter(|it| !self.api.said_of_all.iter().any(|all| all == it));
        let own: Vec<&str> = own.collect();
        self.page.add(self.linked(&own.join("\n\n")));
        self.methods(service);
        for method in service.methods() {
            self.method(&method);
        }
    }

    /// The table of all methods of a service.
    fn methods(&mut self, service: &ServiceDescriptor) {
        let rows: Vec<[String; 4]> = service
            .methods()
            .map(|method| {
                let comment = comment_of_method(&method);
                [
                    self.linked(method.name()),
                    self.api.route(&method).map(rest).unwrap_or_default(),
                    self.callers(&method),
                    self.linked(comment.summary()) + ".",
                ]
            })
            .collect();
        self.page.table(["method", "REST", "callers", "what it does"], &rows);
    }

    fn method(&mut self, method: &MethodDescriptor) {
        let comment = comment_of_method(method);
        self.page.add(format!("### {}", method.name()));
        let mut text = comment.text();
        for marker in [CALLERS, ERRORS] {
            if let Some(said) = comment.sentence_after(marker) {
                text = text.replace(&format!("{marker}{said}"), "");
            }
        }
        let paragraphs: Vec<&str> = text.split("\n\n").map(str::trim).collect();
        self.page.add(self.linked(&paragraphs.join("\n\n")));
        let stream = if method.is_server_streaming() { "a stream of " } else { "" };
        let route = self.api.route(method);
        let rows = [
            [
                "gRPC".to_owned(),
                code(&format!("{}/{}", method.parent_service().full_name(), method.name())),
            ],
            ["REST".to_owned(), route.map_or_else(|| "not offered".to_owned(), rest_with_body)],
            ["callers".to_owned(), self.callers(method)],
            ["answer".to_owned(), format!("{stream}{}", self.answer(method))],
        ];
        self.page.table(["", ""], &rows);
        self.errors(&comment);
        self.fields_under("Request", &method.input());
        if belongs(&method.output(), method) {
            self.fields_under("Answer", &method.output());
        }
        for message in [method.input(), method.output()] {
            if belongs(&message, method) {
                self.enums(&message, "####");
            }
        }
    }

    fn callers(&self, method: &MethodDescriptor) -> String {
        let comment = comment_of_method(method);
        let callers = comment.sentence_after(CALLERS);
        let callers = callers.unwrap_or_else(|| panic!("{}: who may call?", method.full_name()));
        self.linked(callers.trim().trim_end_matches('.'))
    }

    fn answer(&self, method: &MethodDescriptor) -> String {
        match belongs(&method.output(), method) {
            true => code(method.output().name()) + ", below",
            false => self.type_of(&Kind::Message(method.output())),
        }
    }

    /// The errors that a comment names, one code a line.
    fn errors(&mut self, comment: &Comment) {
        let Some(errors) = comment.sentence_after(ERRORS) else { return };
        let line = |error: &str| format!("- {}\n", self.linked(error.trim()));
        let lines: String = errors.trim().trim_end_matches('.').split(';').map(line).collect();
        self.page.add("**Errors**");
        self.page.add(lines);
    }

    fn fields_under(&mut self, title: &str, message: &MessageDescriptor) {
        self.page.add(format!("**{title}** {}", code(message.name())));
        let comment = comment_of_message(message);
        // What goes beyond "The request of GetAllocation".
        self.page.add(self.linked(&comment.details()));
        self.fields(message);
    }

    fn message(&mut self, message: &MessageDescriptor) {
        self.page.add(self.linked(&comment_of_message(message).text()));
        self.fields(message);
        self.enums(message, "###");
        for nested in message.child_messages().filter(|it| !it.is_map_entry()) {
            self.page.add(format!("### {}", short(&nested)));
            self.message(&nested);
        }
    }

    /// The table of the fields of a message.
    fn fields(&mut self, message: &MessageDescriptor) {
        let rows = fields(self.api.words, &self.page.path, message);
        self.page.table(["field", "type", "", "meaning"], &rows);
    }

    fn enums(&mut self, message: &MessageDescriptor, level: &str) {
        for kind in message.child_enums() {
            self.page.add(format!("{level} {}", short_enum(&kind)));
            let comment = Comment::of(&kind.parent_file(), kind.path());
            self.page.add(self.linked(&comment.text()));
            let rows: Vec<[String; 3]> = in_order(&kind)
                .into_iter()
                .map(|(name, number, comment)| {
                    [code(&name), number.to_string(), self.linked(&comment)]
                })
                .collect();
            self.page.table(["value", "number", "meaning"], &rows);
        }
    }

    /// Which events a package publishes.
    fn events(&mut self, files: &[&FileDescriptor]) {
        let names: Vec<String> =
            files.iter().flat_map(|it| it.messages()).map(|it| self.linked(it.name())).collect();
        if !names.is_empty() {
            self.page.add("## Events");
            self.page.add(format!("It publishes {}.", names.join(", ")));
        }
    }

    /// The messages of a package without a service.
    fn contents(&self, files: &[FileDescriptor]) -> String {
        let messages = files.iter().flat_map(FileDescriptor::messages);
        let line = |message: MessageDescriptor| {
            let summary = comment_of_message(&message);
            let link = self.api.words.named(&self.page.path, message.full_name(), message.name());
            format!("- {link}: {}.\n", self.linked(summary.summary()))
        };
        messages.map(line).collect()
    }

    fn type_of(&self, kind: &Kind) -> String {
        type_of(self.api.words, &self.page.path, kind)
    }
}

/// Rows of a message's fields: name, type, rule, meaning.
pub(super) fn fields(words: &Words, page: &str, message: &MessageDescriptor) -> Vec<[String; 4]> {
    let row = |field: FieldDescriptor| {
        let comment = Comment::of(&field.parent_file(), field.path());
        assert!(!comment.text().is_empty(), "{}: what does it mean?", field.full_name());
        let list = if field.is_list() { "list of " } else { "" };
        let kind = type_of(words, page, &field.kind());
        [code(field.name()), format!("{list}{kind}"), rule(&field), words.comment(page, &comment)]
    };
    message.fields().map(row).collect()
}

fn type_of(words: &Words, page: &str, kind: &Kind) -> String {
    match kind {
        Kind::Message(message) if message.full_name().starts_with("google.") => {
            words.named(page, message.full_name(), message.name())
        }
        Kind::Message(message) => words.named(page, message.full_name(), &short(message)),
        Kind::Enum(kind) => words.named(page, kind.full_name(), &short_enum(kind)),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

/// What `google.api.field_behavior` says to a client.
fn rule(field: &FieldDescriptor) -> String {
    let behaviors = Behaviors::of(field);
    let rules = [
        (behaviors.required(), "required"),
        (behaviors.output_only(), "output only"),
        (behaviors.immutable(), "immutable"),
    ];
    let rules: Vec<&str> = rules.into_iter().filter(|(is, _)| *is).map(|(_, rule)| rule).collect();
    rules.join(", ")
}

/// The values of an enum as they are declared.
fn in_order(kind: &EnumDescriptor) -> Vec<(String, i32, String)> {
    let mut values: Vec<_> = kind.values().collect();
    values.sort_by(|one, other| one.path().cmp(other.path()));
    let value = |value: prost_reflect::EnumValueDescriptor| {
        let comment = Comment::of(&value.parent_file(), value.path()).text();
        (value.name().to_owned(), value.number(), comment)
    };
    values.into_iter().map(value).collect()
}

/// Whether a message is the request or the answer of one method and nothing else.
fn belongs(message: &MessageDescriptor, method: &MethodDescriptor) -> bool {
    let own = |suffix: &str| message.name().strip_suffix(suffix) == Some(method.name());
    own("Request") || own("Response")
}

/// A route as people write it.
fn rest(route: &Route) -> String {
    let method = route.method.as_ref().map_or("*", Method::as_str);
    code(&format!("{method} {}", route.template))
}

fn rest_with_body(route: &Route) -> String {
    let query = !route.query_fields().is_empty();
    let rest = rest(route);
    match (&route.body, query) {
        (Body::None, true) => format!("{rest}, other fields in the query"),
        (Body::None, false) => rest,
        (Body::All, _) => format!("{rest}, other fields in the body"),
        (Body::Field(field), true) => {
            format!("{rest}, the body is `{}`, other fields in the query", field.json_name())
        }
        (Body::Field(field), false) => format!("{rest}, the body is `{}`", field.json_name()),
    }
}

/// The types of Google that the API is made of.
fn google_types(pool: &DescriptorPool) -> Vec<String> {
    let ours = pool.all_messages().filter(|it| it.package_name().starts_with("taxi."));
    let mut types: Vec<String> = ours
        .flat_map(|message| message.fields().collect::<Vec<_>>())
        .filter_map(|field| Some(field.kind().as_message()?.full_name().to_owned()))
        .filter(|name| name.starts_with("google."))
        .collect();
    types.sort();
    types.dedup();
    types
}

/// The paragraphs that the comments of all services have in common.
fn said_of_all(pool: &DescriptorPool) -> Vec<String> {
    let comments: Vec<String> =
        pool.services().map(|service| comment_of_service(&service).text()).collect();
    let paragraphs = |comment: &str| comment.split("\n\n").map(str::to_owned).collect::<Vec<_>>();
    let mut said = comments.first().map(|comment| paragraphs(comment)).unwrap_or_default();
    said.retain(|paragraph| comments.iter().all(|it| paragraphs(it).contains(paragraph)));
    said
}

fn comment_of_service(service: &ServiceDescriptor) -> Comment {
    Comment::of(&service.parent_file(), service.path())
}

fn comment_of_method(method: &MethodDescriptor) -> Comment {
    Comment::of(&method.parent_file(), method.path())
}

fn comment_of_message(message: &MessageDescriptor) -> Comment {
    Comment::of(&message.parent_file(), message.path())
}
