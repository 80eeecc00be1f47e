#!/bin/sh
# Records runs of one program: runs.sh OUT FRAMEWORK COMMAND... [-- RUN...]. The command's last argument is a run's name.
# It is started in "/": give it as an absolute path.
set -eu
here=$(dirname "$0") out=$1 framework=$2
shift 2
command="" only=""
while [ $# -gt 0 ] && [ "$1" != -- ]; do command="$command $1"; shift; done
[ $# -gt 0 ] && shift && only=" $* "
export OTEL_SERVICE_NAME="${OTEL_SERVICE_NAME:-weather}"

paris='tool:get_weather:{"city": "Paris"}'
rome='tool:get_weather:{"city": "Rome"}'
done='text:It rains in Paris, at 4 degrees.'
asks='tool:book_flight:{"city": "Paris"}'
# This framework goes on to the model after the question.
case "$framework" in adk-java) asks="$asks;;text:Please confirm the flight." ;; esac

record() {  # run, script of the model
    case "$only" in "" | *" $1 "*) ;; *) return 0 ;; esac
    # shellcheck disable=SC2086
    python3 "$here/record.py" "$out/$framework/$1" "$framework/$1" "$2" -- $command "$1"
}

record ok "$paris;;$rome;;$done"
record toolfail "$paris;;text:The weather service does not answer."
record llmfail "$paris;;error:400"
record conv "$paris;;$done;;$rome;;text:It rains in Rome, too.;;text:It snows in Oslo."
record stream "$paris;;$done"
record structured 'text:{"city": "Paris"}'
case "$framework" in
adk-*)
    record asked "$asks"
    record approval "$asks;;text:The flight is booked."
    record handoff "tool:transfer_to_agent:{\"agent_name\": \"weather_expert\"};;$paris;;$done"
    record agenttool "tool:weather_expert:{\"request\": \"weather in Paris\"};;$paris;;$done;;$done"
    record sequential "$paris;;$done;;text:Take an umbrella."
    record loop "$paris;;$done;;$rome;;$done" ;;
genkit-go)
    record asked "$asks"
    record approval "$asks;;text:The flight is booked."
    record agent "$paris;;$done;;text:Take an umbrella."
    record handoff "tool:delegate_to_weather_expert:{\"task\": \"weather in Paris\"};;$paris;;$done;;$done"
    record maxturns "$paris;;$rome;;$paris;;$rome" ;;
spring-ai)
    record guardrail "$done"
    record two "$paris;;$done;;text:Take an umbrella." ;;
esac
