/* version -- what we call ourselves; the Makefile gives the number. */
#ifndef VERSION_H
#define VERSION_H

#ifndef KINETAIL_VERSION
#error "the Makefile gives KINETAIL_VERSION"
#endif

#define KINETAIL_AGENT "kinetail/" KINETAIL_VERSION

#endif
