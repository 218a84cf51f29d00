/* counted_malloc -- libc's allocations, counted: for a test that promises there are none.
 *
 * To be included once by a test program, whose malloc it replaces.  Under a sanitizer, which brings a
 * malloc of its own, nothing is counted and COUNTED_MALLOC is 0. */
#ifndef COUNTED_MALLOC_H
#define COUNTED_MALLOC_H

#include <stddef.h>
#include <stdlib.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTED_MALLOC 0
#else
#define COUNTED_MALLOC 1
#endif

static size_t allocations;

#if COUNTED_MALLOC
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *ptr, size_t size);

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *ptr, size_t size)
{
    allocations++;
    return __libc_realloc(ptr, size);
}
#endif

#endif
