// The API server as a program: in a network namespace, for benchmarks and for trying things by hand. Objects
// come from manifests at the start, and by PUT and DELETE on their paths (curl) later.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/apiserver/api_server.h"

int main(int argc, char** argv) {
  bpfnet::test::ApiServer::Options options;
  std::vector<std::string> files;
  CLI::App app("bpfnet-apiserver: a Kubernetes API server for tests; ends by SIGTERM or SIGINT");
  app.add_option("--address", options.address, "Address to listen on")->capture_default_str();
  app.add_option("--port", options.port, "Port; 0: any")->capture_default_str();
  app.add_option("manifests", files,
                 "Files of objects to begin with (YAML, or one JSON object a line: .jsonl)");
  CLI11_PARSE(app, argc, argv);
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  try {
    bpfnet::test::ApiServer server(options);
    for (const std::string& file : files) {
      std::ifstream stream(file);
      if (!stream) throw std::runtime_error(file + ": cannot be read");
      if (file.ends_with(".jsonl")) {
        for (std::string line; std::getline(stream, line);) server.put(nlohmann::json::parse(line));
      } else {
        std::stringstream text;
        text << stream.rdbuf();
        server.put_all(bpfnet::test::objects_of_manifest(text.str()));
      }
    }
    fmt::print("{}\n", server.url());
    std::fflush(stdout);
    int signal = 0;
    sigwait(&ends, &signal);
  } catch (const std::exception& error) {
    fmt::print(stderr, "bpfnet-apiserver: {}\n", error.what());
    return 1;
  }
  return 0;
}
