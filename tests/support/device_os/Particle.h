// As much of Device OS as the sketch in docs/receipts.md uses, on this machine: a line in, a line out, and time runs a
// thousand times as fast. `KEEP data` calls keep(), and is answered `KEPT number`; `HEAR name data` is an event for the
// device; `PUBLISH name data` is one of its own.
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>

struct String : std::string {
    using std::string::string;
    String(const std::string &text) : std::string(text) {}
    explicit String(unsigned long number) : std::string(std::to_string(number)) {}
    operator const char *() const { return c_str(); }
    static String format(const char *form, unsigned long number) {
        char text[4096];
        snprintf(text, sizeof text, form, number);
        return text;
    }
};
inline String operator+(const char *left, const String &right) { return std::string(left) + std::string(right); }
inline String operator+(const String &left, const char *right) { return std::string(left) + std::string(right); }

inline unsigned long millis() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000UL + now.tv_nsec / 1000;
}

struct {
    String deviceID() { return "e00fce682e79a004f1e69a2b"; }
} System;

struct {
    std::string prefix;
    void (*handler)(const char *, const char *) = nullptr;
    void subscribe(const String &name, void (*called)(const char *, const char *)) { prefix = name, handler = called; }
    bool connected() { return true; }
    bool publish(const String &name, const String &data) {
        std::cout << "PUBLISH " << name.c_str() << " " << data.c_str() << std::endl;
        return true;
    }
    void hear(const std::string &name, const std::string &data) {
        if (name.compare(0, prefix.size(), prefix) == 0) handler(name.c_str(), data.c_str());
    }
} Particle;

void keep(const String &data);
void setup();
void loop();
extern unsigned long number;

int main() {
    std::ios::sync_with_stdio(false);  // so that what is buffered is seen to be there
    setup();
    std::string line;
    while (true) {
        pollfd input = {STDIN_FILENO, POLLIN, 0};
        while (std::cin.rdbuf()->in_avail() > 0 || poll(&input, 1, 1) > 0) {
            if (!std::getline(std::cin, line)) return 0;
            if (line.rfind("KEEP ", 0) == 0) {
                keep(line.substr(5));
                std::cout << "KEPT " << number << std::endl;
            } else if (line.rfind("HEAR ", 0) == 0) {
                size_t space = line.find(' ', 5);
                Particle.hear(line.substr(5, space - 5), line.substr(space + 1));
            }
        }
        loop();
    }
}
