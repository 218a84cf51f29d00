# kinetail.  `make help` tells what there is to make.
#
# CC, CFLAGS, CPPFLAGS, LDFLAGS are yours; what the sources need stands in KT_*.
# BUILD is where everything goes; SAN=asan or SAN=tsan builds with that sanitizer.

VERSION := 0.1.0
BUILD   ?= build
PREFIX  ?= /usr
SAN     ?=

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

# --- the table of contents ---

common := arena backoff base64 budget buf clock crc32c digest disk encoding escape heap json \
          map random sigv4 utf8
record := cri events fields java java_json java_regex java_text key mill mill_group mill_large \
          parse parse_apache parse_cri parse_csv parse_json parse_logfmt parse_regex \
          parse_syslog pattern recipe scratch squeeze template typed when zone
tail   := copies follower generation glob identity missed nameless neighbours open_files \
          resting resume rewritten roster roster_dir source unpack walk watch
ship   := aws_error batch client creds deliver endpoint firehose gate http http_trouble imds \
          kinesis proxy put retry_after summary window
keep   := checkpoint dead dead_dir facts folders ledger letters reserve spool spool_format \
          spool_job spool_read spool_start state
run    := checkpoint_command config config_convert config_groups config_key config_keys \
          config_pairs config_rules config_texts courier depot destination explain flow \
          flow_leave flow_limit flow_open flow_read flow_say guess import import_convert \
          import_flow import_json import_read judge judge_lines lane leftovers log look loop mistakes \
          morgue outfit patience queue_change queue_command queue_look queue_retry queue_say \
          queue_store scribe setup sheet thrift units

unit  := arena backoff base64 batch budget buf checkpoint config crc32c dead deliver depot \
         digest encoding endpoint escape events fields firehose flow follower gate generation glob \
         heap http http_trouble imds java java_regex json kinesis ledger map mill parse \
         patience pattern proxy recipe record reserve retry_after rooms sigv4 slice source \
         spool squeeze steady summary template thrift typed unpack utf8 when window zone
tools := parse_lines
sim   := crashes histories nth
wrapped := malloc calloc realloc reallocarray strdup strndup mmap mremap
fuzz  := answer checkpoint config dead encoding import java java_regex json mill parse pattern \
         split spool unpack when
bench := evil floor mill pace roll sink spool

# --- how it is built ---

CFLAGS  ?= -O2 -g
KT_CPPFLAGS := -D_GNU_SOURCE -DKINETAIL_VERSION='"$(VERSION)"'
KT_CFLAGS := -std=gnu17 -fPIE -Wall -Wextra -Wconversion -Wshadow -Wformat=2 -Wvla \
             -Wstrict-prototypes -Wmissing-prototypes -Werror=format-security
KT_LDFLAGS := -pie
KT_LDLIBS := -lcurl -lcrypto -lconfig -lz -lzstd -lpthread -lpcre2-8

ifeq ($(SAN),asan)
KT_CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
KT_LDFLAGS += -fsanitize=address,undefined
else ifeq ($(SAN),tsan)
KT_CFLAGS += -fsanitize=thread -fno-omit-frame-pointer
KT_LDFLAGS += -fsanitize=thread
else ifeq ($(SAN),fuzz)
KT_CFLAGS += -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
KT_LDFLAGS += -fsanitize=fuzzer,address,undefined
else
# What a Debian package is built with, and the third level of fortification.
KT_CPPFLAGS += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
KT_CFLAGS += -fstack-protector-strong -fstack-clash-protection -fcf-protection
KT_LDFLAGS += -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed
endif

# Warnings are errors for us, never in a release.
ifneq ($(wildcard .git),)
KT_CFLAGS += $(if $(RELEASE),,-Werror)
endif

objects := $(common:%=common/%) $(record:%=agent/record/%) $(tail:%=agent/tail/%) \
           $(ship:%=agent/ship/%) $(keep:%=agent/keep/%) $(run:%=agent/run/%)
objects := $(objects:%=$(BUILD)/%.o)

SAY = $(if $(QUIET),:,echo)

COMPILE = $(CC) $(KT_CPPFLAGS) $(CPPFLAGS) $(KT_INCLUDE) $(KT_CFLAGS) $(CFLAGS) -MMD -MP
LINK    = $(CC) $(KT_CFLAGS) $(CFLAGS) $(KT_LDFLAGS) $(LDFLAGS)

$(BUILD)/common/%.o: KT_INCLUDE = -Icommon
$(BUILD)/agent/%.o:  KT_INCLUDE = -Icommon -Iagent
$(BUILD)/tests/%.o:  KT_INCLUDE = -Icommon -Iagent -Itests/sim -Itests/unit

# ./kinetail is the ordinary build; another one (sanitizers) stays in its own directory.
ifeq ($(BUILD),build)
program := kinetail
else
program := $(BUILD)/kinetail
endif

.PHONY: all
all: $(program) ## build ./kinetail

$(program): $(BUILD)/agent/main.o $(BUILD)/libkinetail.a
	@$(SAY) '  LINK    $@'
	@$(LINK) -o $@ $^ $(KT_LDLIBS) $(LDLIBS)

$(BUILD)/libkinetail.a: $(objects)
	@rm -f $@
	@$(AR) rcs $@ $^

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@$(SAY) '  CC      $<'
	@$(COMPILE) -c -o $@ $<

# Objects are made anew when they would be made otherwise.
$(BUILD)/flags: KT_INCLUDE =
$(BUILD)/flags: force
	@mkdir -p $(@D)
	@echo '$(subst ','"'"',$(COMPILE))' | cmp -s - $@ || echo '$(subst ','"'"',$(COMPILE))' > $@

.PHONY: force
force:

-include $(patsubst %.o,%.d,$(objects) $(BUILD)/agent/main.o) $(wildcard $(BUILD)/tests/*/*.d)

# --- tests ---

$(BUILD)/unit/%: $(BUILD)/tests/unit/test_%.o $(BUILD)/libkinetail.a
	@mkdir -p $(@D)
	@$(LINK) -o $@ $(filter %.o,$^) $(filter %.a,$^) -lcmocka $(KT_LDLIBS) $(LDLIBS)

$(BUILD)/unit/patience $(BUILD)/unit/steady $(BUILD)/unit/flow: $(BUILD)/tests/sim/world.o

$(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/libkinetail.a
	@mkdir -p $(@D)
	@$(LINK) -o $@ $^ $(KT_LDLIBS) $(LDLIBS)

$(BUILD)/sim/%: $(BUILD)/tests/sim/%.o $(BUILD)/tests/sim/world.o $(BUILD)/tests/sim/model.o \
                $(BUILD)/tests/sim/history.o $(BUILD)/tests/sim/steps.o $(BUILD)/libkinetail.a
	@mkdir -p $(@D)
	@$(LINK) -o $@ $^ -lz $(KT_LDLIBS) $(LDLIBS)

$(BUILD)/sim/crashes: $(BUILD)/tests/sim/crashes.o $(BUILD)/tests/sim/crash_model.o \
                      $(BUILD)/tests/sim/crashdisk.o $(BUILD)/libkinetail.a
	@mkdir -p $(@D)
	@$(LINK) -Wl,--wrap=clock_gettime -o $@ $^ $(KT_LDLIBS) $(LDLIBS)

# Every call of ours that asks for memory goes through the program.
$(BUILD)/sim/nth: $(BUILD)/tests/sim/nth.o $(BUILD)/tests/sim/world.o $(BUILD)/libkinetail.a
	@mkdir -p $(@D)
	@$(LINK) $(wrapped:%=-Wl,--wrap=%) -o $@ $^ $(KT_LDLIBS) $(LDLIBS)

$(BUILD)/bench/%: $(BUILD)/tests/bench/%.o $(BUILD)/libkinetail.a
	@mkdir -p $(@D)
	@$(LINK) -o $@ $^ $(KT_LDLIBS) $(LDLIBS)

$(BUILD)/tools/%: $(BUILD)/tests/tools/%.o $(BUILD)/libkinetail.a
	@mkdir -p $(@D)
	@$(LINK) -o $@ $^ $(KT_LDLIBS) $(LDLIBS)

.SECONDARY:

.PHONY: unit-programs fuzz-programs
unit-programs: $(unit:%=$(BUILD)/unit/%) $(sim:%=$(BUILD)/sim/%) $(tools:%=$(BUILD)/tools/%)
fuzz-programs: $(fuzz:%=$(BUILD)/fuzz/%)

.PHONY: deps
deps: ## install what building and testing need (Debian, Ubuntu)
	@packaging/deps build check

.PHONY: check
check: ## install what is missing, build, run every test
	@packaging/deps build check
	@$(MAKE) --no-print-directory QUIET=1 all unit-programs
	@python3 tests/check.py

.PHONY: check-unit check-system
check-unit: all unit-programs ## run the unit tests only
	@python3 tests/check.py unit
check-system: all $(tools:%=$(BUILD)/tools/%) $(BUILD)/unit/when ## run the system tests only (PYTEST_ARGS='-k name')
	@python3 tests/check.py system -- $(PYTEST_ARGS)

.PHONY: asan tsan
asan: ## unit and system tests under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory BUILD=build/asan SAN=asan all unit-programs
	@KT_BUILD=build/asan KINETAIL=$(CURDIR)/build/asan/kinetail python3 tests/check.py unit system
tsan: ## unit and system tests under ThreadSanitizer
	@$(MAKE) --no-print-directory BUILD=build/tsan SAN=tsan all unit-programs
	@KT_BUILD=build/tsan KINETAIL=$(CURDIR)/build/tsan/kinetail python3 tests/check.py unit system

.PHONY: valgrind
valgrind: all unit-programs ## unit tests under valgrind
	@python3 tests/check.py valgrind

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZ_SECONDS (300) each
	@$(MAKE) --no-print-directory BUILD=build/fuzz SAN=fuzz CC=clang fuzz-programs
	@python3 tests/check.py fuzz --fuzz-seconds $(or $(FUZZ_SECONDS),300)

.PHONY: soak
soak: all unit-programs ## simulated histories for SOAK_COUNT (20000), and as many wild ones
	@python3 tests/check.py soak

.PHONY: mutants
mutants: all $(BUILD)/sim/crashes $(BUILD)/unit/checkpoint $(BUILD)/unit/spool ## break what keeps data on disk, one thing at a time: a test must notice each
	@KT_COMPILE='$(subst ','"'"',$(COMPILE))' KT_LINK='$(LINK)' KT_LIBRARIES='$(KT_LDLIBS) $(LDLIBS)' \
	    KT_BUILD=$(BUILD) python3 tests/mutants/mutants.py $(MUTANTS_ARGS)

.PHONY: kills
kills: all ## kill -9 in all kinds of weather, KILLS (1000) times
	@KILLS=$(or $(KILLS),1000) python3 tests/check.py kills

.PHONY: bench
bench: all $(bench:%=$(BUILD)/bench/%) ## measure (BENCH='throughput latency idle shape json evil spool outage scale': all, which takes half an hour; BENCH_ARGS=--quick)
	@python3 tests/bench/bench.py --bin $(BUILD)/bench --agent ./kinetail $(BENCH_ARGS) $(BENCH)

.PHONY: powercut
powercut: ## cut the power of a machine under QEMU, CUTS (100) times; NOSYNC=1: the agent's fsync does nothing
	@packaging/deps build powercut
	@$(MAKE) --no-print-directory QUIET=1 all
	@python3 tests/powercut/powercut.py --cuts $(or $(CUTS),100) $(if $(NOSYNC),--nosync) $(POWERCUT_ARGS)

.PHONY: demo
demo: ## install what is missing, build, watch a rotating log arrive
	@packaging/deps build demo
	@$(MAKE) --no-print-directory QUIET=1 all
	@python3 tests/demo.py $(DEMO_ARGS)

.PHONY: lint
lint: ## clang-tidy, cppcheck, shellcheck
	@packaging/deps lint
	@python3 tests/check.py lint

# --- install ---

.PHONY: install
install: all ## install below DESTDIR (PREFIX=/usr)
	install -D -m 0755 kinetail $(DESTDIR)$(PREFIX)/bin/kinetail
	install -D -m 0644 config.example $(DESTDIR)$(PREFIX)/share/doc/kinetail/config.example
	install -D -m 0644 README.md $(DESTDIR)$(PREFIX)/share/doc/kinetail/README.md
	install -D -m 0644 systemd/kinetail.service $(DESTDIR)$(PREFIX)/lib/systemd/system/kinetail.service
	install -d -m 0755 $(DESTDIR)/etc/kinetail/conf.d

.PHONY: clean
clean: ## remove what was built
	rm -rf build kinetail

.PHONY: help
help: ## this text
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | sort | \
	    while IFS='|' read -r target text; do printf '%-18s %s\n' "$$target" "$$text"; done
