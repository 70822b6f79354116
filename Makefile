# Secure Socket Programming in C, step by step. "make" shows the doors.
#
# Variables that you may set: BUILD (the folder for all that is made), CC,
# CFLAGS, CPPFLAGS, LDFLAGS. One BUILD folder holds one variant:
#     make BUILD=build/clang CC=clang CFLAGS='-O1 -g' programs

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

first := $(filter deps clean,$(MAKECMDGOALS))
goals := $(filter-out deps clean,$(MAKECMDGOALS))

ifneq ($(and $(first),$(goals)),)

# "make deps GOAL...", "make clean GOAL...": what deps installs is probed when
# a Makefile is read, and clean removes the result, so the goals are left to a
# make of their own that starts when these have ended.
.PHONY: again $(first) $(goals)
$(goals): again
	@:
again: $(first)
	+@$(MAKE) --no-print-directory $(goals)
deps:
	@sh scripts/deps.sh install $(goals)
clean:
	@$(MAKE) --no-print-directory clean

else

BUILD ?= build
CFLAGS ?= -O2 -g
export BUILD

stages := 1 2 3 4
stage-1-programs := $(addprefix $(BUILD)/,echo-once echo-client echo-server)
stage-2-programs := $(addprefix $(BUILD)/,discard-server multiconn-server \
    multiconn-client c10k-server c10k-client)
stage-3-programs := $(addprefix $(BUILD)/,message-tool app-client app-server)
stage-4-programs := $(addprefix $(BUILD)/,tls-echo-client tls-echo-server \
    tls-app-client tls-app-server)
programs := $(foreach stage,$(stages),$(stage-$(stage)-programs))
stage-3-units := $(addprefix $(BUILD)/,message-test connection-test \
    client-test converse)
stage-4-units := $(BUILD)/tls-channel-test
unit-programs := $(stage-3-units) $(stage-4-units)
bench-3-programs := $(addprefix $(BUILD)/,bare-epoll ask-many jansson-alone)
bench-4-programs := $(addprefix $(BUILD)/,bare-tls tls-many)
bench-programs := $(bench-3-programs) $(bench-4-programs)
# What the tests of a stage, and its exercises, are run with.
tested-1 := $(stage-1-programs) $(BUILD)/shim.so
tested-2 := $(stage-2-programs) $(BUILD)/shim.so
tested-3 := $(stage-3-programs) $(stage-3-units) $(BUILD)/shim.so
tested-4 := $(stage-4-programs) $(unit-programs) $(BUILD)/shim.so
# The learner's folder.
MY ?= my
mistakes := $(basename $(notdir $(wildcard tests/mistakes/*.patch)))

##@ Start here

.PHONY: help
help: ## show this list
	@awk -f scripts/help.awk $(firstword $(MAKEFILE_LIST))

.PHONY: deps
deps: ## install the compiler and the tools that the tests use
	@sh scripts/deps.sh install

.PHONY: stage-1
stage-1: $(stage-1-programs) ## a blocking echo: build it, see it live, and what to do next
	@sh scripts/deps.sh need bash
	@scripts/stage.sh 1

.PHONY: stage-2
stage-2: $(stage-1-programs) $(stage-2-programs) ## many connections at a time, with select(), and then ten thousand
	@sh scripts/deps.sh need bash
	@scripts/stage.sh 2

.PHONY: stage-3
stage-3: $(stage-3-programs) ## an application protocol: messages with a JSON header
	@sh scripts/deps.sh need bash
	@scripts/stage.sh 3

.PHONY: stage-4
stage-4: $(stage-4-programs) ## TLS: nobody reads along, or is someone else
	@sh scripts/deps.sh need bash openssl-tool
	@scripts/stage.sh 4

##@ Check

.PHONY: test
test: $(stages:%=test-%) test-docs ## run all tests

.PHONY: test-1
test-1: $(tested-1) ## the tests of stage 1
	@scripts/suite.sh --jobs 8 tests/01-echo.bats

.PHONY: test-2
test-2: $(tested-2) ## the tests of stage 2
	@scripts/suite.sh --jobs 8 tests/02-multiconn.bats

.PHONY: test-3
test-3: $(tested-3) ## the tests of stage 3
	@scripts/suite.sh --jobs 8 $(sort $(wildcard tests/03-*.bats))

.PHONY: test-4
test-4: $(tested-4) ## the tests of stage 4
	@scripts/suite.sh --jobs 8 $(sort $(wildcard tests/04-*.bats))
	@04-tls/make-certs.sh $(BUILD)/certs >/dev/null
	@APP_TLS=$(BUILD)/certs scripts/suite.sh --jobs 8 --filter-tags '!tcp' tests/03-app-protocol.bats

.PHONY: test-grade
test-grade: $(foreach stage,$(stages),$(tested-$(stage))) ## prove the grader: right and wrong solutions, skeletons, and what teachers copy
	@scripts/suite.sh --jobs 2 tests/grade.bats tests/teaching.bats

.PHONY: test-docs
test-docs: $(programs) ## compare the prose with the code, run its transcripts
	@scripts/suite.sh --jobs 8 tests/docs.bats

.PHONY: check
check: test check-variants check-code check-fuzz mistakes test-grade ## everything that CI runs

.PHONY: check-variants
check-variants:
	@scripts/variants.sh

.PHONY: check-code
check-code:
	@scripts/check-code.sh

# SECONDS would be the shell's own.
FUZZ_SECONDS ?= 20

.PHONY: fuzz check-fuzz
fuzz check-fuzz: ## feed random bytes to the decoder, for FUZZ_SECONDS=20
	@scripts/fuzz.sh $(FUZZ_SECONDS)

##@ Measure

.PHONY: bench-2
bench-2: $(stage-2-programs) $(BUILD)/bare-epoll ## what many connections cost: tables, and plots (some minutes)
	@GOAL=$@ sh scripts/deps.sh need python3 gnuplot
	@python3 -B tests/bench/bench-2.py

.PHONY: bench-3
bench-3: $(stage-3-programs) $(bench-3-programs) ## what an answer costs, and what costly clients cost the others (two minutes)
	@GOAL=$@ sh scripts/deps.sh need python3 gnuplot
	@python3 -B tests/bench/bench-3.py

.PHONY: bench-4
bench-4: $(programs) $(bench-programs) ## what TLS costs, beside a bare loop, nginx, haproxy and stunnel (four minutes)
	@GOAL=$@ sh scripts/deps.sh need bash openssl-tool python3 gnuplot
	@python3 -B tests/bench/bench-4.py

##@ Learn from mistakes

.PHONY: mistake
mistake: $(programs) ## NAME=...: see one classic mistake fail; without NAME: list them
	@scripts/mistake.sh show $(NAME)

.PHONY: mistakes
mistakes: $(programs) ## plant each mistake in the code: its test must catch it
	@scripts/mistake.sh prove $(mistakes)

##@ Write it yourself

# N.M, or N, is the stem: start-1.2, grade-1.2, and so on.
start-%: ## put exercise N.M into my/; N alone: the first of the stage
	@sh scripts/deps.sh need python3 patch
	@scripts/exercises.py start $*

.PHONY: grade
grade: $(foreach stage,$(stages),$(tested-$(stage))) ## points for all that you have begun
	@sh scripts/deps.sh need python3
	@scripts/grade.py

.SECONDEXPANSION:
grade-%: $$(tested-$$(firstword $$(subst ., ,$$*))) ## points, and what is wrong and why; N alone: the whole stage
	@sh scripts/deps.sh need python3
	@scripts/grade.py $*

hint-%: ## a question that leads on
	@scripts/exercises.py hint $*

solution-%: ## how yours differs from ours
	@scripts/exercises.py solution $*

##@ Work on this repository

.PHONY: programs
programs: $(programs) ## build all programs

.PHONY: unit-programs
unit-programs: $(unit-programs)

.PHONY: bench-programs
bench-programs: $(bench-programs)

.PHONY: docs
docs: ## bring the excerpts in docs/ up to date with the code
	@sh scripts/deps.sh need python3 ctags
	@scripts/docs.py refresh

.PHONY: format
format: ## lay out the C code in the house style
	@sh scripts/deps.sh need clang-format
	clang-format -i $(wildcard common/*.[ch] 0*/*.[ch] exercises/*.h tests/*/*.[ch])

.PHONY: clean
clean: ## remove all that was made
	rm -rf $(BUILD)

# --- How the programs are made ----------------------------------------------

# Not every compiler knows every flag, and some work in company only (FORTIFY
# needs -O): flags.sh tries them and keeps those that work. When the compiler
# or a flag of yours changes, it tries anew, and all that was built is built
# again.
ifneq ($(filter-out help deps clean docs format,$(or $(MAKECMDGOALS),help)),)
ifeq ($(shell command -v $(firstword $(CC)) 2>/dev/null),)
$(error $(firstword $(CC)) is missing: "make deps" installs a C compiler)
endif
wanted := $(strip $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS))
ifneq ($(shell head -n 1 $(BUILD)/flags.mk 2>/dev/null),\# $(wanted))
$(shell mkdir -p $(BUILD); sh scripts/flags.sh $(BUILD)/flags.mk '$(subst ','\'',$(wanted))')
endif
include $(BUILD)/flags.mk
endif

compile = $(CC) -std=c11 -D_POSIX_C_SOURCE=200809L $(probed_cflags) $(CPPFLAGS) $(CFLAGS)
link = $(CC) $(probed_cflags) $(CFLAGS) $(probed_ldflags) $(LDFLAGS)

common := $(patsubst %.c,$(BUILD)/%.o,$(wildcard common/*.c))

$(BUILD)/%.o: %.c $(BUILD)/flags.mk
	@mkdir -p $(@D)
	@echo "  compile $<"
	@$(compile) -MMD -MP -c -o $@ $<

$(BUILD)/common.a: $(common)
	@rm -f $@
	@$(AR) rcs $@ $^

# echo-once takes nothing from common: from an archive, the linker takes only
# what is asked for.
$(stage-1-programs): $(BUILD)/%: $(BUILD)/01-echo/%.o
$(stage-2-programs): $(BUILD)/%: $(BUILD)/02-multiconn/%.o
$(stage-3-programs): $(BUILD)/%: $(BUILD)/03-app-protocol/%.o $(BUILD)/03-app-protocol.a
$(stage-4-programs): $(BUILD)/%: $(BUILD)/04-tls/%.o $(BUILD)/04-tls.a $(BUILD)/03-app-protocol.a
$(bench-programs): $(BUILD)/%: $(BUILD)/tests/bench/%.o $(BUILD)/tests/bench/file.o
$(BUILD)/ask-many $(BUILD)/tls-many: $(BUILD)/tests/bench/results.o
$(BUILD)/tls-many: $(BUILD)/04-tls.a
$(programs) $(bench-programs): $(BUILD)/common.a
	@echo "  link    $@"
	@$(link) -o $@ $(filter %.o,$^) $(filter-out %/common.a,$(filter %.a,$^)) $(BUILD)/common.a $(LDLIBS)

# What needs Jansson, and OpenSSL, and who is told so if it is missing.
with-jansson := $(patsubst %.c,$(BUILD)/%.o,$(wildcard 03-app-protocol/*.c \
    04-tls/*.c tests/unit/*.c $(MY)/[34].*/*.c) tests/bench/jansson-alone.c)
$(with-jansson): CPPFLAGS += $(shell pkg-config --cflags jansson 2>/dev/null)
$(with-jansson): | need-jansson
$(stage-3-programs) $(stage-4-programs) $(unit-programs) \
    $(BUILD)/$(MY)/3.% $(BUILD)/$(MY)/4.% $(BUILD)/jansson-alone: LDLIBS += \
    $(or $(shell pkg-config --libs jansson 2>/dev/null),-ljansson)
with-openssl := $(patsubst %.c,$(BUILD)/%.o,$(wildcard 04-tls/*.c $(MY)/4.*/*.c)) \
    $(stage-4-units:$(BUILD)/%=$(BUILD)/tests/unit/%.o) \
    $(bench-4-programs:$(BUILD)/%=$(BUILD)/tests/bench/%.o)
$(with-openssl): CPPFLAGS += $(shell pkg-config --cflags openssl 2>/dev/null)
$(with-openssl): | need-openssl
$(stage-4-programs) $(stage-4-units) $(BUILD)/$(MY)/4.% $(bench-4-programs): LDLIBS += \
    $(or $(shell pkg-config --libs openssl 2>/dev/null),-lssl -lcrypto)
.PHONY: need-jansson need-openssl
need-jansson need-openssl:
	@sh scripts/deps.sh need pkg-config $(@:need-%=%)

# What the programs of a stage share: all but the files with their main().
stage-3-parts := $(filter-out $(stage-3-programs:$(BUILD)/%=03-app-protocol/%.c),$(wildcard 03-app-protocol/*.c))
stage-4-parts := $(filter-out $(stage-4-programs:$(BUILD)/%=04-tls/%.c),$(wildcard 04-tls/*.c))
$(BUILD)/03-app-protocol.a: $(stage-3-parts:%.c=$(BUILD)/%.o)
$(BUILD)/04-tls.a: $(stage-4-parts:%.c=$(BUILD)/%.o)
$(BUILD)/03-app-protocol.a $(BUILD)/04-tls.a:
	@rm -f $@
	@$(AR) rcs $@ $^

# The learner's own: a file in my/N.M takes the place of the stage's of that
# name. On the way there, "../../" leads out of exercises/N.M as well, so that
# these files can be graded wherever MY is; and what is copied from the stage as
# it is finds what it includes.
define exercise
$(BUILD)/$(MY)/$1/%.o: CPPFLAGS += -iquote exercises/$1 -iquote $2
$(BUILD)/$(MY)/$1/%: $(patsubst %.c,$(BUILD)/%.o,$(wildcard $(MY)/$1/*.c)) \
    $$$$(if $$$$(wildcard $(MY)/$1/$$$$*.c),,$(BUILD)/$2/$$$$*.o) \
    $(foreach part,$3,$(if $(wildcard $(MY)/$1/$(notdir $(part))),,$(part:%.c=$(BUILD)/%.o))) $4
	@$$(link) -o $$@ $$(filter %.o,$$^) $$(filter %.a,$$^) $$(LDLIBS)
endef
begun = $(notdir $(wildcard $(MY)/$1.[1-9]))
$(foreach n,$(call begun,1),$(eval $(call exercise,$n,01-echo,,$(BUILD)/common.a)))
$(foreach n,$(call begun,2),$(eval $(call exercise,$n,02-multiconn,,$(BUILD)/common.a)))
$(foreach n,$(call begun,3),$(eval $(call exercise,$n,03-app-protocol,$(stage-3-parts),$(BUILD)/common.a)))
$(foreach n,$(call begun,4),$(eval $(call exercise,$n,04-tls,$(stage-4-parts),$(BUILD)/03-app-protocol.a $(BUILD)/common.a)))

# The unit programs count memory, and make it fail: see tests/unit/check.h.
$(stage-4-units): $(BUILD)/04-tls.a
$(unit-programs): $(BUILD)/%: $(BUILD)/tests/unit/%.o $(BUILD)/tests/unit/check.o \
    $(BUILD)/tests/unit/script.o $(BUILD)/03-app-protocol.a $(BUILD)/common.a
	@echo "  link    $@"
	@$(link) -Wl,--wrap=malloc,--wrap=calloc,--wrap=free -o $@ $(filter %.o,$^) \
	    $(filter-out %/common.a,$(filter %.a,$^)) $(BUILD)/common.a $(LDLIBS)

# The channel that a learner has written is tested from inside, too.
$(BUILD)/$(MY)/4.3/tls-channel-test: $(patsubst %,$(BUILD)/tests/unit/%.o,tls-channel-test check script) \
    $(patsubst %.c,$(BUILD)/%.o,$(wildcard $(MY)/4.3/*.c) \
        $(foreach part,$(stage-4-parts),$(if $(wildcard $(MY)/4.3/$(notdir $(part))),,$(part)))) \
    $(BUILD)/03-app-protocol.a $(BUILD)/common.a
	@$(link) -Wl,--wrap=malloc,--wrap=calloc,--wrap=free -o $@ $^ $(LDLIBS)

# The shim runs inside programs of every variant, and so takes no sanitizer.
$(BUILD)/shim.so: tests/helpers/shim.c $(BUILD)/flags.mk
	@$(CC) -std=c11 -O2 -fPIC -shared -o $@ $<

-include $(wildcard $(BUILD)/*/*.d $(BUILD)/tests/*/*.d $(BUILD)/$(MY)/*/*.d)

endif
