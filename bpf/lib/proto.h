/* Protocol numbers, including those that <linux/in6.h> keeps. */
#ifndef BPFNET_LIB_PROTO_H
#define BPFNET_LIB_PROTO_H

#include <linux/in.h>
#include <linux/in6.h>

#endif
