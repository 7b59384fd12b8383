#include "control/kubernetes/resource.h"

namespace bpfnet::kubernetes {
namespace {

using sources::Kind;
using std::string_view;

// A quarter of the bytes of a cluster's pods is who set which field, another what its containers run.
constexpr string_view kOfAll[] = {"managedFields", "ownerReferences"};
constexpr string_view kOfPods[] = {"managedFields",
                                   "ownerReferences",
                                   "volumes",
                                   "env",
                                   "envFrom",
                                   "volumeMounts",
                                   "volumeDevices",
                                   "resources",
                                   "livenessProbe",
                                   "readinessProbe",
                                   "startupProbe",
                                   "lifecycle",
                                   "securityContext",
                                   "command",
                                   "args",
                                   "tolerations",
                                   "affinity",
                                   "topologySpreadConstraints",
                                   "nodeSelector",
                                   "readinessGates",
                                   "schedulingGates",
                                   "dnsConfig",
                                   "hostAliases",
                                   "imagePullSecrets",
                                   "conditions",
                                   "containerStatuses",
                                   "initContainerStatuses",
                                   "ephemeralContainerStatuses",
                                   "resourceClaimStatuses",
                                   "hostIPs"};
constexpr string_view kOfNodes[] = {"managedFields",   "images",       "nodeInfo", "capacity", "allocatable",
                                    "volumesAttached", "volumesInUse", "config",   "features"};
constexpr string_view kOfSlices[] = {"managedFields", "ownerReferences", "targetRef", "deprecatedTopology"};

// ServiceCIDR objects are what S32 watches; the selectors are those of S2 and S3. The label of headless
// services is no proxy's on a Service with an address either: the slices of such a one do not have it.
constexpr std::array<Resource, 8> kResources = {{
    {.kind = Kind::kNamespace, .plural = "namespaces", .path = "/api/v1/namespaces", .skipped = kOfAll},
    {.kind = Kind::kNode, .plural = "nodes", .path = "/api/v1/nodes", .skipped = kOfNodes},
    {.kind = Kind::kPod, .plural = "pods", .path = "/api/v1/pods", .skipped = kOfPods},
    {.kind = Kind::kService,
     .plural = "services",
     .path = "/api/v1/services",
     .label_selector = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless",
     .field_selector = "spec.clusterIP!=None",
     .skipped = kOfAll},
    {.kind = Kind::kEndpointSlice,
     .plural = "endpointslices",
     .path = "/apis/discovery.k8s.io/v1/endpointslices",
     .label_selector = "!service.kubernetes.io/headless",
     .older_path = "/apis/discovery.k8s.io/v1beta1/endpointslices",  // alone before Kubernetes 1.21
     .skipped = kOfSlices},
    {.kind = Kind::kNetworkPolicy,
     .plural = "networkpolicies",
     .path = "/apis/networking.k8s.io/v1/networkpolicies"},
    {.kind = Kind::kServiceCidr,
     .plural = "servicecidrs",
     .path = "/apis/networking.k8s.io/v1/servicecidrs",
     .optional = true,
     .skipped = kOfAll},
    {.kind = Kind::kClusterNetworkPolicy,
     .plural = "clusternetworkpolicies",
     .path = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies",
     .optional = true},
}};

}  // namespace

const std::array<Resource, 8>& resources() {
  return kResources;
}

const Resource& resource_of(Kind kind) {
  return kResources.at(static_cast<size_t>(kind));
}

}  // namespace bpfnet::kubernetes
