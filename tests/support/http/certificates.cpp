#include "tests/support/http/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <cstdint>
#include <stdexcept>

#include "base/address.h"

namespace bpfnet::test {
namespace {

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* it) const {
    Free(it);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;

void check(bool done, const char* what) {
  if (!done) throw std::runtime_error(std::string("openssl: ") + what);
}

Key make_key() {
  Key key(EVP_EC_gen("P-256"));
  check(key != nullptr, "key");
  return key;
}

Certificate blank(const std::string& name, EVP_PKEY* key) {
  Certificate certificate(X509_new());
  check(certificate != nullptr, "certificate");
  X509* x = certificate.get();
  uint64_t serial = 0;
  RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof(serial));
  X509_set_version(x, 2);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial >> 1);
  X509_gmtime_adj(X509_getm_notBefore(x), -3600);
  X509_gmtime_adj(X509_getm_notAfter(x), 24L * 3600);
  X509_set_pubkey(x, key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  return certificate;
}

void extend(X509* certificate, X509* issuer, int what, const std::string& text) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, what, text.c_str());
  check(extension != nullptr, text.c_str());
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

std::string text_of(const Bio& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<size_t>(size)};
}

std::string pem(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  check(PEM_write_bio_X509(bio.get(), certificate) == 1, "PEM");
  return text_of(bio);
}

std::string pem(EVP_PKEY* key) {
  const Bio bio(BIO_new(BIO_s_mem()));
  check(PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1, "PEM");
  return text_of(bio);
}

}  // namespace

struct Authority::Keys {
  Key key;
  Certificate certificate;

  [[nodiscard]] KeyPair issue(const std::string& name, const char* use, const std::string& names) const {
    const Key own = make_key();
    const Certificate issued = blank(name, own.get());
    X509_set_issuer_name(issued.get(), X509_get_subject_name(certificate.get()));
    extend(issued.get(), certificate.get(), NID_ext_key_usage, use);
    if (!names.empty()) extend(issued.get(), certificate.get(), NID_subject_alt_name, names);
    check(X509_sign(issued.get(), key.get(), EVP_sha256()) != 0, "sign");
    return {pem(issued.get()), pem(own.get())};
  }
};

Authority::Authority(const std::string& name) : keys_(std::make_unique<Keys>()) {
  keys_->key = make_key();
  keys_->certificate = blank(name, keys_->key.get());
  X509* own = keys_->certificate.get();
  X509_set_issuer_name(own, X509_get_subject_name(own));
  extend(own, own, NID_basic_constraints, "critical,CA:TRUE");
  check(X509_sign(own, keys_->key.get(), EVP_sha256()) != 0, "sign");
  certificate_ = pem(own);
}

Authority::~Authority() = default;

KeyPair Authority::server(const std::vector<std::string>& names, bool client_too) const {
  std::string all;
  for (const std::string& name : names)
    all += (all.empty() ? "" : ",") + std::string(Address::parse(name) ? "IP:" : "DNS:") + name;
  return keys_->issue("server", client_too ? "serverAuth,clientAuth" : "serverAuth", all);
}

KeyPair Authority::client(const std::string& name) const {
  return keys_->issue(name, "clientAuth", "");
}

}  // namespace bpfnet::test
