// `bpfnetctl apply|get|delete` as a person calls them, with a directory and no agent.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

using testing::HasSubstr;

struct Output {
  int status = -1;
  std::string text;  ///< of both streams
};

class ObjectCommands : public testing::Test {
 protected:
  ObjectCommands() {
    std::string name = (std::filesystem::temp_directory_path() / "bpfnet-objects-XXXXXX").string();
    root = mkdtemp(name.data());
  }
  ~ObjectCommands() override { std::filesystem::remove_all(root); }

  [[nodiscard]] Output run(const std::string& arguments) const {
    Output output;
    FILE* pipe =
        popen(fmt::format("cd {} && {} {} 2>&1", root.string(), BPFNETCTL_BINARY, arguments).c_str(), "r");
    char buffer[4096];
    for (size_t got = 0; (got = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) output.text.append(buffer, got);
    output.status = WEXITSTATUS(pclose(pipe));
    return output;
  }
  void write(const std::string& name, const std::string& text) const { std::ofstream(root / name) << text; }

  std::filesystem::path root;
};

constexpr const char* kWeb =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.96.0.1, "
    "ports: [{port: 80}]}\n";

TEST_F(ObjectCommands, ApplyGetAndDelete) {
  write("web.yaml", kWeb);
  EXPECT_EQ(run("apply -f web.yaml --manifests m").text, "service/web created\n");
  EXPECT_EQ(run("apply -f - --manifests m < web.yaml").text, "service/web unchanged\n");
  EXPECT_EQ(run("get svc -A --manifests m -o name").text, "service/web\n");
  EXPECT_EQ(run("get svc web -n shop --manifests m -o yaml").text, kWeb);
  EXPECT_EQ(run("delete -f web.yaml --dry-run --manifests m").text, "service/web deleted (dry run)\n");
  EXPECT_EQ(run("delete svc/web -n shop --manifests m").text, "service/web deleted\n");
  EXPECT_EQ(run("get svc -A --manifests m").text, "there are none\n");
}

TEST_F(ObjectCommands, ADirectoryIsAppliedAsAWholeOrNotAtAll) {
  std::filesystem::create_directory(root / "in");
  write("in/a.yaml", kWeb);
  write("in/b.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: UPPER}\n");
  const Output refused = run("apply -f in --manifests m");
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.text, HasSubstr("in/b.yaml:3: Pod: metadata.name: is \"UPPER\""));
  EXPECT_FALSE(std::filesystem::exists(root / "m"));
  write("in/b.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: lower}\n");
  EXPECT_EQ(run("apply -f in --manifests m").text, "service/web created\npod/lower created\n");
}

TEST_F(ObjectCommands, WhatIsNotThereIsToldAndFails) {
  std::filesystem::create_directory(root / "m");
  for (const char* command : {"get svc nope --manifests m", "delete svc nope --manifests m"}) {
    const Output output = run(command);
    EXPECT_EQ(output.status, 1) << command;
    EXPECT_EQ(output.text, "bpfnetctl: Service default/nope: not found\n");
    EXPECT_EQ(run(command + std::string(" --ignore-not-found")).status, 0);
  }
}

TEST_F(ObjectCommands, MisuseIsToldWithTheWayOut) {
  const auto expect = [&](const std::string& arguments, int status, const char* says) {
    const Output output = run(arguments);
    EXPECT_EQ(output.status, status) << arguments;
    EXPECT_THAT(output.text, HasSubstr(says)) << arguments;
  };
  write("web.yaml", kWeb);
  write("empty.yaml", "# nothing\n");
  expect("apply", 2, "--file is required");
  expect("apply -f nope.yaml --manifests m", 1, "nope.yaml: open: ENOENT");
  expect("apply -f empty.yaml --manifests m", 1, "empty.yaml: there is no object in it");
  expect("apply -f web.yaml --socket /nonexistent", 1, "start it, or say --manifests DIR");
  expect("apply -f web.yaml --manifests m --wait --socket /nonexistent", 1, "--wait: agent at /nonexistent");
  expect("get", 2, "KIND is required");
  expect("get deploy --manifests m", 2, "bpfnet has no such kind; these are: ");
  expect("get svc web -A --manifests m", 2, "give -n NAMESPACE, not -A");
  expect("get svc -o xml --manifests m", 2, "xml not in {table,wide,yaml,json,name}");
  expect("delete svc --manifests m", 2, "name the objects that are to be deleted");
  expect("delete --manifests m", 2, "KIND NAME..., or -f FILE");
  expect("delete svc x -f web.yaml --manifests m", 2, "KIND NAME..., or -f FILE");
}

}  // namespace
